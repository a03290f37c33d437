"""What each kind of feedback teaches, and what teaches nothing."""

import dataclasses
from pathlib import Path

import pytest
from taught import ASKED, FACT, START, library, say, tell

from agent import prompt
from agent.domain import Domain
from agent.store import Store
from tuning.harvest import facts_of, harvest, own_words


@pytest.fixture
def domain(tmp_path: Path) -> Domain:
    return library(tmp_path / "library")


@pytest.fixture
def store(db: Store) -> Store:
    return db


def only(store: Store, domain: Domain):
    rows, dropped = harvest(store, domain)
    assert len(rows) == 1 and dropped == []
    return rows[0]


def reason(store: Store, domain: Domain) -> str:
    rows, dropped = harvest(store, domain)
    assert rows == [] and len(dropped) == 1
    return dropped[0].reason


def test_a_liked_reply_is_an_answer_with_the_prompt_as_it_stood(store, domain):
    turn = say(store, domain, history=("I like novels.", "Fine."))
    tell(store, turn, "up")
    row = only(store, domain)
    assert (row.part, row.signal, row.question, row.answer) == ("generator", "up", ASKED, "For 3 weeks.")
    assert row.facts == (FACT,) and row.history == ("I like novels.", "Fine.") and row.rejected is None
    assert (row.turn, row.author, row.bundle) == (turn, "ann", f"{domain.name}@0001")
    assert row.created.startswith("2026-03-01") and row.session == f"s-{turn}"


def test_a_correction_is_the_answer_and_the_models_own_words_are_the_worse_ones(store, domain):
    tell(store, say(store, domain, reply="For 2 weeks."), "correction", "You may keep it for 3 weeks.")
    row = only(store, domain)
    assert (row.signal, row.answer, row.rejected) == ("correction", "You may keep it for 3 weeks.", "For 2 weeks.")


def test_a_correction_that_repeats_the_reply_makes_no_pair(store, domain):
    tell(store, say(store, domain), "correction", " For 3 weeks. ")
    assert only(store, domain).rejected is None


def test_words_of_the_guard_are_never_the_models_worse_answer(store, domain):
    tell(store, say(store, domain, flags=("unsupported_number",)), "correction", "Three weeks.")
    assert only(store, domain).rejected is None


def test_a_disliked_reply_is_one_to_avoid(store, domain):
    tell(store, say(store, domain), "down")
    row = only(store, domain)
    assert (row.part, row.signal, row.answer) == ("generator", "down", "For 3 weeks.")


@pytest.mark.parametrize("changes, words", [
    ({"error": "out of memory"}, "engine failed"), ({"flags": ("error",)}, "engine failed"),
    ({"flags": ("red_flag:fire",)}, "red flag"), ({"flags": ("unreadable",)}, "too long"),
    ({"flags": ("forbidden",)}, "guard's words"), ({"abstained": True, "reply": "Our pages do not say."}, "refusal"),
    ({"prompted": False}, "no prompt"), ({"reply": ""}, "empty")])
def test_a_dislike_of_what_the_model_did_not_do_teaches_nothing(store, domain, changes, words):
    tell(store, say(store, domain, **changes), "down")
    assert words in reason(store, domain)


@pytest.mark.parametrize("kind, value", [("intent", "opening"), ("correction", "Call us."), ("up", None)])
def test_a_red_flag_and_an_engine_failure_give_no_row_of_any_kind(store, domain, kind, value):
    tell(store, say(store, domain, flags=("red_flag:fire",)), kind, value)
    tell(store, say(store, domain, error="gone", state="error", flags=("error",)), kind, value)
    rows, dropped = harvest(store, domain)
    assert rows == [] and len(dropped) == 2


def test_a_correction_of_a_tools_answer_is_dropped_with_the_reason(store, domain):
    tell(store, say(store, domain, prompted=False, tool="tools.clock:now", tool_result="noon"), "correction", "It is one.")
    assert "no prompt" in reason(store, domain)


def test_labels_are_rows_of_the_router(store, domain):
    tell(store, say(store, domain, "are you open on sunday"), "intent", "opening")
    tell(store, say(store, domain, "sing me a song"), "none_of_these", after=1)
    first, second = harvest(store, domain)[0]
    assert (first.part, first.question, first.intent, first.answer) == ("router", "are you open on sunday", "opening", None)
    assert (second.signal, second.intent) == ("none_of_these", "oos")


def test_a_label_needs_no_prompt(store, domain):
    tell(store, say(store, domain, "are you open on sunday", prompted=False, state="handoff"), "intent", "opening")
    assert only(store, domain).intent == "opening"


def test_a_label_of_signs_and_private_marks_alone_teaches_nothing(store, domain):
    tell(store, say(store, domain, "[EMAIL_1] 24,500!"), "intent", "opening")
    assert "no words" in reason(store, domain)


def test_a_follow_up_is_learned_after_the_question_before_it(store, domain):
    say(store, domain, "how many books may i borrow", session="talk")
    tell(store, say(store, domain, "and what about films?", session="talk"), "intent", "borrowing")
    assert only(store, domain).question == "how many books may i borrow and what about films?"


def test_a_comment_teaches_nothing(store, domain):
    tell(store, say(store, domain), "comment", "nice")
    assert harvest(store, domain) == ([], [])


def test_a_persons_reply_after_hand_off_corrects_the_answer_straight_before(store, domain):
    answered = say(store, domain, reply="For 2 weeks.", session="talk")
    handed = say(store, domain, "let me talk to somebody", "I am passing you to the desk.", session="talk", prompted=False,
                 state="handoff", intent="talk_to_person")
    tell(store, handed, "reply", "Novels stay with you for 3 weeks.", author="desk")
    row = only(store, domain)
    assert (row.turn, row.question, row.rejected, row.signal) == (answered, ASKED, "For 2 weeks.", "reply")
    assert row.answer == "Novels stay with you for 3 weeks." and row.facts == (FACT,) and row.author == "desk"


def test_a_reply_after_a_red_flag_or_with_nothing_before_it_gives_no_row(store, domain):
    say(store, domain, session="talk")
    flagged = say(store, domain, "there is a fire", "Leave now.", session="talk", prompted=False, flags=("red_flag:fire",))
    alone = say(store, domain, "a person please", "Yes.", prompted=False, state="handoff")
    for turn in (flagged, alone):
        tell(store, turn, "reply", "We have called them.", author="desk")
    rows, dropped = harvest(store, domain)
    assert rows == [] and sorted(each.reason.split(":")[0] for each in dropped) == [
        "a red flag", "a tool or a fixed text answered"]


def test_private_values_leave_what_people_wrote_and_marks_stay(store, domain):
    turn = say(store, domain, "I am [NAME_1], how long may I keep it?")
    tell(store, turn, "correction", "Write to ann.lee@example.org, [NAME_1].")
    row = only(store, domain)
    assert "ann.lee" not in row.answer and "[EMAIL_1]" in row.answer and "[NAME_1]" in row.answer
    assert row.question.startswith("I am [NAME_1]")


def test_another_domains_feedback_and_what_was_said_before_stay_out(store, domain):
    other = dataclasses.replace(domain, name="other")
    tell(store, say(store, other), "up")
    turn = say(store, domain)
    tell(store, turn, "up", after=0)
    tell(store, turn, "correction", "3 weeks.", after=5)
    assert [row.signal for row in harvest(store, domain)[0]] == ["up", "correction"]
    assert [row.signal for row in harvest(store, domain, since=START.isoformat(timespec="microseconds"))[0]] == ["correction"]


def test_facts_come_back_as_they_were_rendered(domain):
    for facts in ((), ("A, B: one",), ("A, B: one - two", "C, D: \u2028 three")):
        assert facts_of(prompt.render(domain, facts, (), "question with\n\nFacts:\n- none of it")) == facts
    assert facts_of([]) is None and facts_of([{"role": "system", "content": "Other words."}]) is None


def test_own_words_are_without_disclosure_and_way_back(tmp_path):
    shop = library(tmp_path / "shop", toml='disclosure = "No advice."\ndisclose_intents = ["borrowing"]\n')
    assert own_words("For 3 weeks.\n\nNo advice.\n\nBack to the order: which one?", shop) == "For 3 weeks."
    assert own_words("No advice.", shop) == "No advice."


def test_the_same_store_gives_the_same_ids(store, domain):
    tell(store, say(store, domain), "up")
    assert [row.id for row in harvest(store, domain)[0]] == [row.id for row in harvest(store, domain)[0]]
