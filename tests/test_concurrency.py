"""Conversations at once: the benchmark of tests/benchmarks/concurrency.py in small, and that it sees what it looks for."""

from dataclasses import replace

from benchmarks.concurrency import STRIDE, Conversation, Echo, begin, held_against_the_store, measure

from agent import Agent


def test_twenty_conversations_at_once_hear_their_own_alone_in_order_and_all_is_on_disk(settings):
    agent = Agent.load("finance", generator=Echo(), home=settings.home)
    try:
        table = measure(agent, 20, STRIDE)
        assert table["foreign"] == table["rows_that_differ"] == table["otherwise_than_alone"] == []
        assert table["told"] == table["rows"] == 100 and table["by_tools"] > 30 and table["echoed"] > 30
        assert table["sessions_in_line"] == 0 and table["redactors"] == 20

        first, second, *others = begin(agent, 20)
        for each in (first, second):  # the rows of the other one are seen as such
            each.told.append(("", agent.ask_sync(each.message(0), "another")))
        assert len(held_against_the_store(agent, [first, second, *others])) > 20
    finally:
        agent.close()


def test_a_reply_that_is_anothers_is_seen():
    from agent.types import Done, Turn

    one, two = (Conversation(number, ["How?"]) for number in (1, 2))
    assert one.word != two.word and len({Conversation(number, ()).word for number in range(1000)}) == 1000
    turn = Turn("1", one.session, "finance", "b", one.message(0), one.message(0), reply=one.word, engine="echo")
    one.told = [(one.message(0), Done(turn, one.word))]
    assert one.foreign() == []
    one.told = [(one.message(0), Done(replace(turn, reply=two.word), one.word))]
    assert one.foreign() == [f"conversation-1 heard {two.word} in turn 0"]
    one.told = [(one.message(0), Done(replace(turn, tool_arguments={"amount": two.loan}), one.word))]
    assert one.foreign() == ["conversation-1 has the loan 10023 in turn 0"]
    one.told = [(one.message(1), Done(turn, one.word))]
    assert len(one.foreign()) == 1
