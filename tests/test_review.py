"""Decisions about rows: what fits, what is kept, in which order rows are shown, and the command by keys and by options."""

import dataclasses
import json
import os
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import sqlalchemy as sa
from taught import library, say, tell
from typer.testing import CliRunner

from agent.domain import Domain
from agent.errors import DataError
from agent.schema import reviews, signals
from agent.settings import Settings
from agent.store import Store
from tuning import quarantine
from tuning.dataset import build
from tuning.review import decide, decisions, queue
from tuning.rows import Row, Waiting

ROOT = Path(__file__).parent.parent


@pytest.fixture
def domain(tmp_path: Path) -> Domain:
    return library(tmp_path / "library")


@pytest.fixture
def store(db: Store) -> Store:
    return db


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


# The command


def review(home: Path, *arguments: str, keys: str = ""):
    from agent.surfaces.review import app

    return CliRunner().invoke(app, [*arguments, "--home", str(home), "--reviewer", "me"], input=keys)


@pytest.fixture
def desk(settings: Settings, domain: Domain):
    """A home with three router rows and a disliked reply that wait, its store and its domain."""
    store = Store(settings.database_url)
    store.open()
    for text in ("what does the card cost", "who has the key", "is there a lift"):
        label(store, domain, text)
    tell(store, say(store, domain, "How long for a film?", "For 12 weeks."), "down", author="dan")
    yield settings.home, store, domain
    store.close()


def test_rows_are_decided_by_key_and_what_is_skipped_comes_again(desk):
    home, store, domain = desk
    by_hand = {"what does the card cost": "a", "who has the key": "r\nborrowing", "is there a lift": "s",
               "How long for a film?": "e\nFor 3 weeks."}
    order = [each.row.question for each in build(domain, store).waiting]
    run = review(home, str(domain.folder), keys="".join(f"{by_hand[question]}\n" for question in order))
    assert run.exit_code == 0, run.output
    assert all(question in run.output for question in order) and "1 row waits." in run.output
    made = build(domain, store)
    assert sorted((row.question, row.intent) for row in made.router) == [
        ("what does the card cost", "opening"), ("who has the key", "borrowing")]
    assert [(row.answer, row.rejected) for row in made.generator] == [("For 3 weeks.", "For 12 weeks.")]
    again = review(home, str(domain.folder), keys="x\n")
    assert "who has the key" not in again.output and "Nothing waits." in again.output


def test_a_key_that_does_not_fit_says_what_does_and_shows_the_row_again(desk):
    home, store, domain = desk
    label(store, domain, question := "may dogs come in", confidence=0.1)  # the least sure is shown first
    run = review(home, str(domain.folder), keys="e\nr\nparking\n?\nq\n")
    assert run.exit_code == 0 and "relabel it instead" in run.output and "has no intent 'parking'" in run.output
    assert run.output.count(f"question  {question}") == 4 and decisions(store, domain) == {}


def test_trusting_an_author_lets_all_his_rows_through_at_once(desk):
    home, store, domain = desk
    run = review(home, str(domain.folder), keys="t\n" * 4)
    assert "eve is trusted." in run.output and len(build(domain, store).router) == 3


def test_the_end_of_the_input_loses_nothing(desk):
    home, store, domain = desk
    assert "4 rows wait." in review(home, str(domain.folder)).output
    assert len(build(domain, store).waiting) == 4


def test_scripts_list_and_decide_by_id(desk):
    home, store, domain = desk
    listed = json.loads(review(home, str(domain.folder), "--json").output)
    ids = {each["question"]: each["id"] for each in listed}
    assert len(ids) == 4 and all(each["reasons"] == ["its author is new"] for each in listed)
    for option in (("--accept", ids["is there a lift"][:8]), ("--relabel", ids["who has the key"], "oos"),
                   ("--reject", ids["what does the card cost"]), ("--edit", ids["How long for a film?"], "For 3 weeks.")):
        told = json.loads(review(home, str(domain.folder), *option, "--json").output)
        assert told["decision"] == option[0][2:] and told["reviewer"] == "me"
    assert json.loads(review(home, str(domain.folder), "--json").output) == []
    review(home, str(domain.folder), "--reject", ids["is there a lift"])  # a decision can be changed
    assert [row.question for row in build(domain, store).router] == ["who has the key"]


def test_authors_are_trusted_and_blocked_by_option(desk):
    home, store, domain = desk
    review(home, str(domain.folder), "--trust", "eve")
    assert len(build(domain, store).router) == 3
    told = json.loads(review(home, str(domain.folder), "--block", "eve", "--json").output)
    assert told == {"author": "eve", "status": "blocked"}
    assert build(domain, store).router == ()


@pytest.mark.parametrize("options, words", [(("--accept", "zzz"), "no row 'zzz'.*--list"), (("--accept", ""), None),
                                            (("--add", "parking", "--reply", "x"), "there are: none")])
def test_what_is_not_there_is_refused_with_the_next_step(desk, options, words):
    home, store, domain = desk
    run = review(home, str(domain.folder), *options)
    if words:
        assert isinstance(run.exception, DataError) and re.search(words, str(run.exception))
    else:
        assert run.exit_code == 0  # an empty id is none: the rows are gone through
    assert decisions(store, domain) == {}


def test_two_decisions_at_once_are_wrong_usage(desk):
    home, store, domain = desk
    assert review(home, str(domain.folder), "--trust", "a", "--block", "b").exit_code == 2
    assert review(home, str(domain.folder), "--reply", "words").exit_code == 2


def test_one_key_adds_a_proposed_intent_to_the_domain(desk):
    home, store, domain = desk
    texts = ("where can I park my car", "is there car parking", "can I park a car here", "parking for my car", "car parking")
    for number, text in enumerate(texts):
        say(store, domain, text, intent=None, state="refused", session=f"s{number}", prompted=False)
    listed = json.loads(review(home, str(domain.folder), "--intents", "--json").output)
    assert [each["size"] for each in listed] == [5]
    run = review(home, str(domain.folder), "--intents", keys="a\n\nn\ncar_parking\nBehind the house.\n")
    assert run.exit_code == 0 and "give a reply" in run.output
    assert Domain.load(domain.folder).intents["car_parking"].reply == "Behind the house."


def test_a_terminal_needs_one_key_and_no_return(desk):
    import pty

    home, store, domain = desk
    code = "from agent.surfaces.review import app; app()"
    keyboard, terminal = pty.openpty()
    with open(home / "said", "w+", encoding="utf-8") as said:
        command = [sys.executable, "-c", code, str(domain.folder), "--home", str(home)]
        run = subprocess.Popen(command, stdin=terminal, stdout=said, stderr=said, cwd=ROOT)
        try:
            for _ in range(3000):  # what is pressed before a key is waited for is thrown away, so press until it is over
                os.write(keyboard, b"x")
                with suppress(subprocess.TimeoutExpired):
                    run.wait(0.1)
                    break
        finally:
            run.kill()
            run.wait()
            os.close(terminal)
            os.close(keyboard)
        said.seek(0)
        assert "Nothing waits." in said.read() and run.returncode == 0
    assert [each.decision for each in decisions(store, domain).values()] == ["reject"] * 4
