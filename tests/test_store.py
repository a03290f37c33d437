"""The store: what was said is read as it was logged, whole or not at all, and people's words are kept."""

import json
import random
from contextlib import closing
from dataclasses import replace

import pytest

from agent.errors import DataError, StoreError
from agent.schema import signals
from agent.signals import Signal
from agent.store import Store
from agent.teaching import KINDS, RIVALS, VALUED
from agent.types import Passage, Route, Turn

ROUTE = Route("loan_payment", 0.91, (("loan_payment", 0.91), ("rates", 0.06)), 0.04)
PASSAGE = Passage("loans#2", "Loans", "Payments", "A loan is paid monthly.", "example.org")


def turn(id="t1", session="s1", **changes):
    made = Turn(id, session, "finance", "finance@0001", "I am Ann", "I am [NAME]", reply="Hello")
    return replace(made, **({"state": "answered"} | changes))


# Turns


def test_a_turn_is_read_as_it_was_logged(db):
    made = turn(
        route=ROUTE,
        intent="loan_payment",
        slots={"amount": 12000, "set": {"a"}},
        passages=(PASSAGE,),
        tool="tools.loans:monthly_payment",
        tool_arguments={"rate": 3.5},
        tool_result="212.47",
        flags=("numbers_checked",),
        abstained=True,
        timings_ms={"route": 4.2, "odd": float("nan")},
        engine="onnx",
        prompt_tokens=212,
        tokens=31,
    )
    messages = [{"role": "user", "content": "I am [NAME]"}]
    db.log(made, {"slots": {"amount": 12000}}, messages)
    row = db.turn("t1")
    assert row.pop("created").endswith("+00:00")
    assert row == {
        "id": "t1",
        "session": "s1",
        "seq": 1,
        "domain": "finance",
        "bundle": "finance@0001",
        "question": "I am [NAME]",
        "reply": "Hello",
        "intent": "loan_payment",
        "confidence": 0.91,
        "oos": 0.04,
        "ranking": [["loan_payment", 0.91], ["rates", 0.06]],
        "state": "answered",
        "slots": {"amount": 12000, "set": ["a"]},
        "passages": ["loans#2"],
        "tool": "tools.loans:monthly_payment",
        "tool_arguments": {"rate": 3.5},
        "tool_result": "212.47",
        "flags": ["numbers_checked"],
        "abstained": True,
        "timings_ms": {"route": 4.2, "odd": None},
        "engine": "onnx",
        "prompt_tokens": 212,
        "tokens": 31,
        "messages": messages,
        "error": None,
    }
    assert db.session("s1", "finance")["state"] == {"slots": {"amount": 12000}}


def test_what_the_person_really_wrote_never_reaches_the_disk(tmp_path):
    with closing(Store(f"sqlite:///{tmp_path / 'retune.db'}")) as made:
        made.open()
        made.log(turn(question="My card is 4111 1111 1111 1111"), {}, handoff="asked")
    held = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert b"4111" not in held and b"I am [NAME]" in held


def test_logging_a_turn_again_changes_nothing(db):
    db.log(turn(), {"n": 1}, handoff="asked")
    db.log(turn(reply="Other"), {"n": 2}, handoff="asked again", error="late")
    row, session = db.turn("t1"), db.session("s1", "finance")
    assert row["reply"] == "Hello" and row["error"] is None
    assert session["state"] == {"n": 1} and session["turns"] == 1
    assert [each["reason"] for each in db.handoffs()] == ["asked"]


@pytest.mark.parametrize(
    "text",
    [
        "Grüße, 你好, שלום, नमस्ते",
        "👩‍👩‍👧‍👦 🏳️‍🌈",
        "'); DROP TABLE turns; --",
        'quote " back \\ slash \\u0000 line\r\n tab\t',
        "\ufeffbyte order mark",
        "\x01\x1b[31mred\x7f",
        "e\u0301 is not é",
    ],
)
def test_text_is_stored_as_given(db, text):
    db.log(turn(redacted=text, reply=text), {text: text}, [{"role": "user", "content": text}], text)
    row = db.turn("t1")
    assert (row["question"], row["reply"]) == (text, text)
    assert row["messages"] == [{"role": "user", "content": text}]
    assert db.session("s1", "finance")["state"] == {text: text}
    assert db.handoffs()[0]["conversation"] == [{"question": text, "reply": text}]


def test_nul_and_half_characters_become_the_replacement_character(db):
    db.log(turn(redacted="a\0b\ud83dc", reply="\udce9"), {"k\0": ["\0", {"x": "\ude00"}]})
    row = db.turn("t1")
    assert row["question"] == "a\ufffdb\ufffdc" and row["reply"] == "\ufffd"
    assert db.session("s1", "finance")["state"] == {"k\ufffd": ["\ufffd", {"x": "\ufffd"}]}


def test_json_is_kept_readable_on_disk(db):
    db.log(turn(), {"said": "你好"})
    with db.reading() as at:
        held = at.exec_driver_sql("SELECT CAST(state AS TEXT) FROM sessions").scalar()
    assert json.loads(held) == {"said": "你好"} and "你好" in held


def test_a_handoff_waits_with_the_conversation_so_far(db):
    db.log(turn("t1", redacted="first", reply="one"), {})
    db.log(turn("other", "s2", redacted="not mine"), {})
    db.log(turn("t2", redacted="second", reply="two"), {}, handoff="asked for a person")
    (row,) = db.handoffs()
    assert row.pop("created")
    assert row == {
        "turn": "t2",
        "session": "s1",
        "domain": "finance",
        "reason": "asked for a person",
        "status": "waiting",
        "author": "",
        "by": "",
        "conversation": [
            {"question": "first", "reply": "one"},
            {"question": "second", "reply": "two"},
        ],
    }
    assert db.handoffs("answered") == []


def test_a_turn_that_cannot_be_written_whole_is_not_written_at_all(db):
    with db.writing() as at:
        at.exec_driver_sql("DROP TABLE handoffs")
    with pytest.raises(StoreError):
        db.log(turn(), {"n": 1}, handoff="asked")
    assert db.turn("t1") is None and db.sessions() == []


def test_history_is_the_last_turns_oldest_first_without_the_failed(db):
    for number in range(1, 6):
        db.log(turn(f"t{number}", redacted=f"q{number}", reply=f"r{number}"), {})
    db.log(turn("t6"), {}, error="EngineError")
    db.log(turn("t7", state="error"), {})
    assert db.history("s1", 2) == [("q4", "r4"), ("q5", "r5")]
    assert db.history("unknown", 5) == []
    assert db.last_turn("s1")["id"] == "t7"
    assert db.turn("t6")["error"] == "EngineError"


def test_a_session_is_made_once_and_read_after(db):
    first = db.session("s1", "finance")
    assert set(first) == {"id", "domain", "author", "state", "created", "turns"}
    assert (first["state"], first["turns"]) == ({}, 0)
    db.log(turn(), {"asking": "amount"})
    again = db.session("s1", "finance")
    assert again["created"] == first["created"]
    assert (again["state"], again["turns"]) == ({"asking": "amount"}, 1)


def test_the_first_name_that_a_session_hears_stays(db):
    assert db.session("s1", "finance")["author"] == ""
    assert db.session("s1", "finance", "ann")["author"] == "ann"
    for later in ("", "ben"):
        assert db.session("s1", "finance", later)["author"] == "ann"
    assert db.session("s2", "finance", "ben")["author"] == "ben"
    db.session("s3", "medical")
    with pytest.raises(StoreError, match="belongs to the domain 'medical'"):
        db.session("s3", "finance", "ann")
    assert db.session("s3", "medical")["author"] == ""


def test_a_session_of_another_domain_is_refused(db):
    db.session("s1", "medical")
    with pytest.raises(StoreError, match=r"'s1' belongs to the domain 'medical', not to 'finance'"):
        db.session("s1", "finance")
    with pytest.raises(StoreError, match="start another session"):
        db.log(turn(), {})
    assert db.turn("t1") is None


def test_sessions_are_listed_by_last_use(db):
    for name in ("s1", "s2"):
        db.session(name, "finance")
    db.session("m1", "medical")
    db.log(turn(), {})
    assert [row["id"] for row in db.sessions()] == ["s1", "m1", "s2"]
    assert [row["id"] for row in db.sessions("finance")] == ["s1", "s2"]
    assert [row["id"] for row in db.sessions(limit=1)] == ["s1"]


def test_what_is_unknown_is_none(db):
    assert db.turn("t9") is None and db.last_turn("s9") is None and db.feedback_of("t9") == []


# Weak signals


def weak(db):
    with db.reading() as at:
        return [tuple(row)[:3] for row in at.execute(signals.select().order_by(signals.c.name))]


def test_a_weak_signal_is_written_with_the_turn_that_gave_it_and_once(db):
    db.log(turn(), {})
    sign = Signal("t1", "reask", "3 of 4 words again")
    db.log(turn("t2"), {}, signals=[sign])
    db.log(turn("t2"), {}, signals=[Signal("t1", "disputed", "late")])
    db.log(turn("t3"), {}, signals=[sign, Signal("t2", "disputed", "that is wrong")])
    assert weak(db) == [("t2", "disputed", "that is wrong"), ("t1", "reask", "3 of 4 words again")]
    assert db.feedback_of("t1") == []


def test_a_weak_signal_about_a_turn_that_is_gone_does_not_cost_the_new_turn(db):
    db.log(turn("t2"), {}, signals=[Signal("gone", "reask", "")])
    assert db.turn("t2") and weak(db) == []


def test_a_turn_that_cannot_be_written_leaves_no_weak_signal(db):
    db.log(turn(), {})
    db.session("s2", "medical")
    with pytest.raises(StoreError):
        db.log(turn("t2", "s2"), {}, signals=[Signal("t1", "reask", "")])
    assert weak(db) == []


# Feedback


def given(db, turn_id="t1"):
    return [(row["author"], row["kind"], row["value"]) for row in db.feedback_of(turn_id)]


def test_feedback_given_again_is_one_row_with_its_first_time(db):
    db.log(turn(), {})
    db.feedback("t1", "ann", "up")
    first = db.feedback_of("t1")
    db.feedback("t1", "ann", "up")
    assert db.feedback_of("t1") == first and given(db) == [("ann", "up", None)]


def test_up_and_down_replace_one_another_for_one_author(db):
    db.log(turn(), {})
    for author, kind in [("ann", "up"), ("ben", "up"), ("ann", "down"), ("ann", "comment")]:
        db.feedback("t1", author, kind, "why" if kind == "comment" else None)
    assert given(db) == [("ben", "up", None), ("ann", "down", None), ("ann", "comment", "why")]


def test_a_later_correction_replaces_the_earlier(db):
    db.log(turn(), {})
    db.feedback("t1", "ann", "correction", "It is 212.47.")
    db.feedback("t1", "ann", "correction", "It is 212.48 — 你好\0")
    assert given(db) == [("ann", "correction", "It is 212.48 — 你好\ufffd")]


def test_an_intent_and_none_of_these_replace_one_another_and_leave_the_rest(db):
    db.log(turn(), {})
    for kind, value in [("intent", "loan"), ("down", None), ("none_of_these", None)]:
        db.feedback("t1", "ann", kind, value)
    assert given(db) == [("ann", "down", None), ("ann", "none_of_these", None)]
    db.feedback("t1", "ann", "intent", "rates")
    assert given(db) == [("ann", "down", None), ("ann", "intent", "rates")]


def test_feedback_that_cannot_be_is_a_sentence(db):
    db.log(turn(), {})
    for wrong, said in [
        (("t9", "ann", "up"), "no turn 't9'"),
        (("t1", "ann", "like"), "use one of up, down, correction"),
        (("t1", "ann", "correction"), "needs its text"),
        (("t1", "ann", "comment", "  "), "needs its text"),
        (("t1", "ann", "up", "because"), "takes no text"),
        (("t1", "ann", "reply", "Hello"), "was not handed off"),
    ]:
        with pytest.raises(DataError, match=said):
            db.feedback(*wrong)
    assert given(db) == []


def test_an_answered_handoff_no_longer_waits_and_keeps_the_reply(db):
    db.log(turn(), {}, handoff="asked")
    db.log(turn("t2"), {}, handoff="asked again")
    db.answer_handoff("t1", "ben", "I sent you the form.")
    assert [row["turn"] for row in db.handoffs()] == ["t2"]
    assert [row["turn"] for row in db.handoffs("answered")] == ["t1"]
    assert given(db) == [("ben", "reply", "I sent you the form.")]


def test_a_handoff_that_cannot_be_answered_goes_on_waiting(db):
    db.log(turn(), {}, handoff="asked")
    with db.writing() as at:
        at.exec_driver_sql("ALTER TABLE feedback RENAME TO gone")
    with pytest.raises(StoreError):
        db.answer_handoff("t1", "ben", "I sent you the form.")
    assert [row["turn"] for row in db.handoffs()] == ["t1"]


def said(kind, created=None, value=None, turn_id="t1"):
    return {"turn": turn_id, "author": "ann", "kind": kind, "value": value, "created": created}


def test_much_feedback_is_written_whole_or_not_at_all(db):
    db.log(turn(), {})
    with pytest.raises(DataError, match="no turn 't9'"):
        db.feedback_all([said("up"), said("comment", value="x", turn_id="t9")])
    assert given(db) == []
    assert db.feedback_all([said("up"), said("up")]) == {"written": 1, "unchanged": 1, "older": 0}


def test_of_much_feedback_in_one_go_the_last_word_stands(db):
    db.log(turn(), {})
    db.feedback("t1", "ann", "down")
    words = [said("up"), said("intent", value="loan"), said("down"), said("none_of_these"), said("comment", value="a")]
    assert db.feedback_all([*words, said("comment", value="b"), said("up")])["written"] == 7
    assert given(db) == [("ann", "none_of_these", None), ("ann", "comment", "b"), ("ann", "up", None)]


def test_much_feedback_in_one_go_is_as_if_said_one_by_one(db):
    """More than one bundle of statements holds, in an order that is not that of the turns."""
    order, kinds = random.Random(0), [kind for kind in KINDS if kind != "reply"]
    for number in range(10):
        db.log(turn(f"t{number}"), {})
    words, expected = [], {}
    for kind in order.choices(kinds, k=1200):
        id, author = f"t{order.randrange(10)}", order.choice("abcdefgh")
        value = order.choice("xy") if kind in VALUED else None
        words.append({"turn": id, "author": author, "kind": kind, "value": value})
        for rival in RIVALS.get(kind, ()):
            expected.pop((id, author, rival), None)
        expected[id, author, kind] = value
    db.feedback_all(words)
    assert {(f"t{n}", *row[:2]): row[2] for n in range(10) for row in given(db, f"t{n}")} == expected
    assert len(expected) > 200


def test_what_was_said_earlier_does_not_replace_what_is_said_now(db):
    db.log(turn(), {})
    db.feedback_all([said("down", "2026-02-01T00:00:00.000000+00:00")])
    assert db.feedback_all([said("up", "2026-01-01T00:00:00.000000+00:00")])["older"] == 1
    assert given(db) == [("ann", "down", None)]
    assert db.feedback_all([said("up", "2026-03-01T00:00:00.000000+00:00")])["written"] == 1
    assert db.feedback_of("t1")[0]["created"] == "2026-03-01T00:00:00.000000+00:00"


def test_what_is_said_now_stands_though_a_clock_was_ahead(db):
    db.log(turn(), {})
    db.feedback_all([said("up", "2999-01-01T00:00:00.000000+00:00")])
    db.feedback("t1", "ann", "down")
    assert given(db) == [("ann", "down", None)]
