"""Decisions about rows: what fits, what is kept, in which order rows are shown, and the command by keys and by options."""

import dataclasses
from pathlib import Path

import pytest
import sqlalchemy as sa
from taught import library, opened, say, tell

from agent.domain import Domain
from agent.errors import DataError
from agent.schema import reviews, signals
from agent.store import Store
from tuning import quarantine
from tuning.dataset import build
from tuning.review import decide, decisions, queue
from tuning.rows import Row, Waiting


@pytest.fixture
def domain(tmp_path: Path) -> Domain:
    return library(tmp_path / "library")


@pytest.fixture
def store(tmp_path: Path):
    made = opened(tmp_path)
    yield made
    made.close()


def label(store: Store, domain: Domain, text: str, intent: str = "opening", author: str = "eve", **changes) -> str:
    turn = say(store, domain, text, **changes)
    tell(store, turn, "intent", intent, author)
    return turn


ROUTED = Row("router", "intent", "is it open", intent="opening", turn="t", author="eve")
ANSWERED = Row("generator", "down", "is it open", answer="No.", turn="t", author="eve")


@pytest.mark.parametrize("row, decision, given, words", [
    (ROUTED, "perhaps", {}, "accept, edit, relabel, reject"), (ROUTED, "edit", {"answer": "x"}, "relabel it instead"),
    (ROUTED, "relabel", {"intent": "parking"}, "borrowing, opening, talk_to_person and oos"),
    (ROUTED, "relabel", {}, "borrowing, opening"), (ANSWERED, "relabel", {"intent": "opening"}, "edit it or reject it"),
    (ANSWERED, "edit", {}, "better answer"), (ANSWERED, "edit", {"answer": "  "}, "better answer")])
def test_a_decision_that_does_not_fit_the_row_is_refused_with_the_next_step(store, domain, row, decision, given, words):
    with pytest.raises(DataError, match=words):
        decide(store, domain, row, decision, "me", **given)
    assert decisions(store, domain) == {}


def test_the_newest_decision_counts_and_there_is_one_row_of_it(store, domain):
    decide(store, domain, ROUTED, "relabel", "me", intent="oos")
    decide(store, domain, ROUTED, "accept", "you", intent="opening")
    with store.reading() as at:
        found = at.execute(sa.select(reviews)).mappings().one()
    assert (found["row"], found["decision"], found["reviewer"], found["intent"], found["domain"]) == (
        ROUTED.id, "accept", "you", None, domain.name)


def test_private_values_leave_an_edited_answer(store, domain):
    decide(store, domain, ANSWERED, "edit", "me", answer="Write to ann.lee@example.org.")
    assert decisions(store, domain)[ANSWERED.id].answer == "Write to [EMAIL_1]."


def test_decided_rows_do_not_come_again(store, domain):
    for text in ("what does the card cost", "who has the key", "is there a lift"):
        label(store, domain, text)
    for left in (2, 1, 0):
        decide(store, domain, build(domain, store).waiting[0], "accept", "me")
        assert len(build(domain, store).waiting) == left
    assert len(build(domain, store).router) == 3


def test_another_domains_decisions_do_not_count(store, domain, tmp_path):
    label(store, domain, "what does the card cost")
    waiting, = build(domain, store).waiting
    decide(store, dataclasses.replace(domain, name="other"), waiting, "reject", "me")
    assert len(build(domain, store).waiting) == 1


# Order


def test_the_unsure_come_before_the_sure_and_the_disputed_before_both(store, domain):
    label(store, domain, "what does the card cost", confidence=0.95)
    label(store, domain, "who has the key", confidence=0.3)
    weak = label(store, domain, "is there a lift", confidence=0.99)
    with store.writing() as at:
        at.execute(signals.insert().values(turn=weak, name="disputed", detail="no", created="2026-03-01T00:00:00+00:00"))
    assert [each.row.question for each in build(domain, store).waiting] == [
        "is there a lift", "who has the key", "what does the card cost"]


def test_what_many_people_say_comes_before_what_one_says(store, domain):
    label(store, domain, "what does the card cost")
    for number in range(4):
        label(store, domain, f"is there a lift to the reading room{'!' * number}", author=f"p{number}")
        label(store, domain, f"is there a lift to the reading room no {number}", author=f"p{number}")
    made = build(domain, store)
    assert made.waiting[0].row.question.startswith("is there a lift") and made.waiting[0].score > made.waiting[-1].score


def test_rows_alike_are_not_shown_in_a_row():
    texts = ("where is my parcel now", "where is my parcel now?!", "sing")
    rows = [Row("router", "intent", text, intent="x") for text in texts]
    order = queue([Waiting(row, (), 3 - number) for number, row in enumerate(rows)])
    assert [each.row for each in order] == [rows[0], rows[2], rows[1]] and queue([]) == []


def test_trust_lets_an_authors_rows_through(store, domain):
    label(store, domain, "what does the card cost")
    assert build(domain, store).router == ()
    quarantine.trust(store, "eve")
    assert len(build(domain, store).router) == 1
