"""Intents that people ask for and the domain does not have: found among what was refused, and added whole or not at all."""

import os
from pathlib import Path

import pytest
from taught import bag, library, opened, say, tell

from agent.domain import Domain
from agent.encoder import Encoder
from agent.errors import DataError, DomainError
from agent.models import find
from tuning.proposals import Proposal, add_intent, outside, propose

PARKING = ["where can I park my car", "is there parking for a car", "can I park my car here overnight",
           "do you have car parking", "park a car near the library", "how much is parking a car"]
REST = ["sing me a song", "who won the match", "what is the capital of Peru", "buy two tons of gravel"]


@pytest.fixture
def domain(tmp_path: Path) -> Domain:
    return library(tmp_path / "library", evaluation=[{"id": "c", "turns": ["is there parking for a car"]}],
                   toml="\n# the end of the file\n")


def asked(texts: list[str], sessions: int = 3) -> list[dict[str, str]]:
    return [{"id": f"t{i}", "session": f"s{i % sessions}", "question": text} for i, text in enumerate(texts)]


def files(domain: Domain) -> dict[str, bytes]:
    return {str(path.relative_to(domain.folder)): path.read_bytes() for path in domain.folder.rglob("*") if path.is_file()}


# Which turns


def test_refused_turns_and_none_of_these_are_outside_and_nothing_else_is(tmp_path, domain):
    store = opened(tmp_path)
    refused = say(store, domain, "where can I park", intent=None, state="refused", abstained=True, prompted=False)
    called = say(store, domain, "is there a lift", "For 3 weeks.")
    tell(store, called, "none_of_these")
    tell(store, say(store, domain, "when is it open", intent=None, state="refused"), "intent", "opening")
    say(store, domain, "how long may I keep it")
    say(store, domain, "help, fire", intent=None, state="refused", flags=("red_flag:fire",))
    say(store, domain, "x" * 99, intent=None, state="refused", flags=("unreadable",))
    say(store, domain, "gone", intent=None, state="refused", error="out of memory")
    assert sorted(each["id"] for each in outside(store, domain)) == sorted([refused, called])
    store.close()


# Clusters


def test_turns_that_belong_together_are_proposed_with_a_name_from_their_own_words():
    one, = propose(asked(PARKING + REST), bag, apart=0.85)
    assert set(one.examples) == set(PARKING) and one.sessions == 3 and 0 < one.cohesion <= 1
    assert set(one.name.split("_")) <= {"car", "park", "parking"} and len(one.turns) == 6


def test_few_turns_or_one_session_propose_nothing():
    assert propose(asked(PARKING[:4] + REST), bag, apart=0.85) == []
    assert propose(asked(PARKING + REST, sessions=1), bag, apart=0.85) == []
    assert propose([], bag) == propose(asked(["?"] * 9), bag) == []


def test_wordings_are_told_once_and_every_time_counts():
    one, = propose(asked(["Where can I park?", "where can I park"] * 3), bag)
    assert len(one.examples) == 1 and len(one.turns) == 6


def test_a_name_that_is_taken_gets_a_number():
    rows = asked(["where can I park"] * 5)
    first, = propose(rows, bag)
    second, = propose(rows, bag, taken=[first.name])
    assert first.name == "park" and second.name == "park_2"


def test_other_scripts_have_a_name_that_a_file_can_hold():
    one, = propose(asked(["停车场在哪里"] * 5), bag)
    assert one.name == "new_intent"


def test_the_real_encoder_keeps_wishes_apart(settings):
    cards = ["my card does not work", "why is my card not working", "my library card is not working", "card not working today",
             "the card stopped working today", "help, my card won't work"]
    found = propose(asked(PARKING + REST + cards), Encoder(find("minilm", settings)).embed)
    assert len(found) == 2
    for one in found:
        of = [set(PARKING), set(cards)]
        assert any(set(one.examples) <= each for each in of), one


# Into the domain

FOUND = Proposal("car_parking", tuple(PARKING), ("t1",), 3, 0.8)


def test_an_added_intent_is_one_that_the_domain_loads_with_its_wordings_and_words(domain):
    before = (domain.folder / "domain.toml").read_text(encoding="utf-8")
    add_intent(domain, FOUND, "car_parking", 'Behind the house; "free" — 2 hours.\nNot at night.')
    again = Domain.load(domain.folder)
    assert again.intents["car_parking"].reply == 'Behind the house; "free" — 2 hours. Not at night.'
    assert again.intents["car_parking"].answer == "fixed" and again.intents["car_parking"].about == "car parking"
    texts = {row["text"] for row in again.rows("intents.jsonl") if row["intent"] == "car_parking"}
    assert texts == set(PARKING) - {"is there parking for a car"}  # that one is in the evaluation set
    after = (domain.folder / "domain.toml").read_text(encoding="utf-8")
    assert after.startswith(before) and "# the end of the file" in after and not list(domain.folder.glob(".*"))


def test_a_hand_off_is_added_the_same_way(domain):
    add_intent(domain, FOUND, "car_parking", "I am passing you to the desk.", "handoff")
    assert Domain.load(domain.folder).intents["car_parking"].answer == "handoff"


def test_a_file_without_a_last_line_end_keeps_its_last_row(domain):
    file = domain.folder / "intents.jsonl"
    file.write_bytes(file.read_bytes().rstrip(b"\n"))
    count = len(domain.rows("intents.jsonl"))
    add_intent(domain, FOUND, "car_parking", "Behind the house.")
    assert len(Domain.load(domain.folder).rows("intents.jsonl")) == count + len(PARKING) - 1


@pytest.mark.parametrize("name, reply, answer, words", [
    ("Car Parking", "x", "fixed", "lower-case"), ("borrowing", "x", "fixed", "taken"), ("oos", "x", "fixed", "taken"),
    ("", "x", "fixed", "lower-case"), ("cars", "  ", "fixed", "give a reply"), ("cars", "x", "tool", "fixed or handoff")])
def test_what_cannot_be_an_intent_is_refused_and_nothing_changes(domain, name, reply, answer, words):
    before = files(domain)
    with pytest.raises(DataError, match=words):
        add_intent(domain, FOUND, name, reply, answer)
    assert files(domain) == before


def test_wordings_that_are_all_known_are_refused(domain):
    with pytest.raises(DataError, match="write new ones"):
        add_intent(domain, Proposal("x", ("Is there parking for a car?", "my book is overdue what now"), (), 2, 1.0), "x", "y")


def test_a_domain_that_would_not_load_is_left_as_it_was(domain):
    file = domain.folder / "domain.toml"
    file.write_text(file.read_text(encoding="utf-8") + "[colour]\n", encoding="utf-8")  # broken since it was loaded
    before = files(domain)
    with pytest.raises(DomainError, match=f"{domain.folder}.*colour.*Nothing was changed"):
        add_intent(domain, FOUND, "car_parking", "Behind the house.")
    assert files(domain) == before


def test_a_second_file_that_cannot_be_written_brings_the_first_one_back(domain, monkeypatch):
    before, replace = files(domain), os.replace

    def full(source, target):
        if Path(target).name == "intents.jsonl":
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(DataError, match="No space left.*Nothing was changed"):
        add_intent(domain, FOUND, "car_parking", "Behind the house.")
    assert files(domain) == before
