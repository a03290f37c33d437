"""Conversations at once: the benchmark of tests/benchmarks/concurrency.py in small, and that it sees what it looks for."""

from dataclasses import replace

from benchmarks.concurrency import STRIDE, Conversation, Echo, begin, held_against_the_store, measure

from agent import Agent


def test_twenty_conversations_at_once_hear_their_own_alone_in_order_and_all_is_on_disk(settings):
    agent = Agent.load("finance", generator=Echo(), home=settings.home)
    try:
        table = measure(agent, 20, STRIDE)
        assert table["cross_talk"] == [] and table["rows_that_differ"] == []
        assert table["told"] == table["rows"] == 100 and table["by_tools"] >= 40 and table["echoed"] >= 30
        assert table["sessions_in_line"] == 0 and table["redactors"] == 20

        first, second, *others = begin(agent.domain, 20)
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
    assert one.problems() == []
    one.told = [(one.message(0), Done(replace(turn, reply=two.word), two.word))]
    assert len(one.problems()) == 2
