"""Private values of the sessions used last stay in memory, and of those in use; others are let go of."""

import asyncio

from instant import agent

from agent.redactors import Redactors


def test_the_sessions_used_longest_ago_are_let_go_of():
    held = Redactors(most=3)
    first = held.of("a")
    for name in "bc":
        held.of(name)
    assert held.of("a") is first  # used again, so b is the oldest
    held.of("d")
    assert len(held) == 3 and "b" not in held and "a" in held


def test_a_session_in_use_stays_whatever_comes():
    held = Redactors(most=2)
    with held.using("a") as mine:
        for number in range(10):
            held.of(str(number))
        assert held.of("a") is mine
        held.clear()
        assert "a" in held
    for number in range(10):
        held.of(str(number))
    assert "a" not in held and len(held) == 2


def test_more_in_use_than_are_kept_are_all_kept_until_they_end():
    held = Redactors(most=1)
    with held.using("a"), held.using("b"), held.using("c"):
        assert len(held) == 3
    assert len(held) == 1


def test_a_process_that_talks_for_ever_holds_no_more_than_the_last_sessions(home):
    made = agent(home, "Fine.")
    made.redactors.most = 5

    async def talk() -> None:
        for number in range(30):
            await made.ask(f"I am ann{number}@example.org, can I send it back?", str(number))

    asyncio.run(talk())
    made.close()
    assert len(made.redactors) == 5 and len(made.line) == 0


def test_a_session_that_was_let_go_of_gives_its_old_marks_to_no_new_value(home):
    made = agent(home, "We wrote to [EMAIL_1].")
    made.ask_sync("I am ann@example.org, can I send it back?", "s")
    made.redactors.clear()
    done = made.ask_sync("and can ben@example.org send it back?", "s")
    made.close()
    assert "[EMAIL_2]" in done.turn.redacted and done.reply == "We wrote to [EMAIL_1]."


def test_a_value_that_was_let_go_of_is_asked_for_again_before_a_tool_is_called(home):
    made = agent(home, "", usual="change_address")
    made.ask_sync("change the address of LK-10541", "s")
    confirm = made.ask_sync("221B Baker Street, London NW1 6XE", "s")
    assert confirm.turn.state == "confirming" and "[ADDRESS_1]" in confirm.turn.reply
    made.redactors.clear()
    again = made.ask_sync("yes", "s")
    assert again.turn.state == "failed" and "address" in again.reply and "no longer" in again.reply
    assert made.ask_sync("221B Baker Street, London NW1 6XE", "s").turn.state == "confirming"
    done = made.ask_sync("yes", "s")
    made.close()
    assert done.turn.state == "done" and "221B Baker Street" in done.reply and "Baker" not in done.turn.reply
