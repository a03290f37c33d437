"""What every shipped domain owes its users: enough examples, sources, held-out rows, and a bundle made from today's data."""

import importlib
import json
import re
from collections import Counter
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from agent.domain import Domain, plain, shipped
from agent.registry import MANIFEST
from tuning import metrics

KINDS = {"near", "far"}
LARGEST_BUNDLE = 8 * 2**20  # bytes
STATES = {"answered", "done", "asking", "confirming", "cancelled", "handoff", "escalated", "refused", "failed", "clarify"}
# Figures that a tool can do without and that the dialogue neither reads nor asks for.
UNASKED = {"portfolio_risk": {"risk_free"}}
pytestmark = pytest.mark.parametrize("name", shipped())


@cache
def load(name: str) -> Domain:
    return Domain.load(name)


@cache
def rows(name: str, file: str) -> list[dict[str, Any]]:
    return load(name).rows(file)


def grounded(name: str) -> list[dict[str, Any]]:
    """Rows that the generator is trained on: those about tool results are not."""
    return [row for row in rows(name, "dialogues.jsonl") if not row.get("tool_result")]


def words(text: str) -> str:
    return plain(text) or text.strip()


# ---- training

def test_there_are_intents_enough_and_each_has_examples(name: str) -> None:
    counts = Counter(row["intent"] for row in rows(name, "intents.jsonl"))
    assert len(counts) >= 18 and set(counts) == set(load(name).intents)
    assert {intent: count for intent, count in counts.items() if count < 35} == {}


def test_every_way_to_answer_that_a_person_may_need_is_there(name: str) -> None:
    assert {intent.answer for intent in load(name).intents.values()} >= {"docs", "tool", "fixed", "handoff"}


def test_no_text_stands_under_two_labels(name: str) -> None:
    labels: dict[str, set[str]] = {}
    for row in rows(name, "intents.jsonl"):
        labels.setdefault(words(row["text"]), set()).add(row["intent"])
    for row in rows(name, "oos.jsonl"):
        labels.setdefault(words(row["text"]), set()).add("oos")
    assert {text: found for text, found in labels.items() if len(found) > 1} == {}


def test_out_of_scope_rows_are_many_and_half_of_them_are_near(name: str) -> None:
    kinds = Counter(row["kind"] for row in rows(name, "oos.jsonl"))
    assert sum(kinds.values()) >= 120 and set(kinds) == KINDS
    assert kinds["near"] >= sum(kinds.values()) / 2


def test_articles_are_many_and_each_has_a_source_and_a_passage(name: str) -> None:
    domain = load(name)
    articles = {passage.id.partition("#")[0] for passage in domain.passages}
    assert len(articles) >= 40
    assert articles == {file.stem for file in (domain.folder / "knowledge").glob("*.md")}
    assert all(passage.source and passage.title and passage.heading and passage.text for passage in domain.passages)


def test_articles_name_only_intents_that_are_answered_from_articles(name: str) -> None:
    domain = load(name)
    named = set(chain.from_iterable(passage.intents for passage in domain.passages))
    assert named <= set(domain.intents)
    from_articles = {intent.name for intent in domain.intents.values() if intent.answer == "docs"}
    assert from_articles <= named, "an intent that is answered from articles has none"


def test_grounded_rows_are_many_with_a_quarter_unanswerable_and_follow_ups(name: str) -> None:
    found = grounded(name)
    assert len(found) >= 250
    assert sum(not row["answerable"] for row in found) / len(found) >= 0.22
    assert sum(bool(row.get("history")) for row in found) >= 20


@pytest.mark.parametrize("file", ["dialogues.jsonl", "eval/questions.jsonl"])
def test_rows_with_answers_are_whole(name: str, file: str) -> None:
    known = {passage.id for passage in load(name).passages}
    found = [row for row in rows(name, file) if not row.get("tool_result")]
    assert max(Counter(row["id"] for row in rows(name, file)).values()) == 1
    for row in found:
        assert set(row.get("evidence", ())) <= known, row["id"]
        assert bool(row["evidence"]) == row["answerable"] == bool(row["answer"]) == bool(row["must_say"]), row["id"]
        assert len(row.get("history", ())) in (0, 2), row["id"]


@pytest.mark.parametrize("file", ["dialogues.jsonl", "eval/questions.jsonl"])
def test_what_must_be_said_stands_in_the_passage_and_in_the_answer(name: str, file: str) -> None:
    texts = {passage.id: passage.text for passage in load(name).passages}
    for row in (row for row in rows(name, file) if not row.get("tool_result")):
        passage = " ".join(texts[key] for key in row["evidence"])
        assert all(option.strip() for phrase in row["must_say"] for option in phrase.split("|")), row["id"]
        for phrase in row["must_say"]:
            assert metrics.must_say(passage, [phrase]), f"{row['id']}: {phrase!r} is not in {row['evidence']}"
        if row["answerable"]:
            assert metrics.must_say(row["answer"], row["must_say"]), row["id"]


def test_every_passage_is_asked_for_in_several_ways(name: str) -> None:
    domain = load(name)
    counts = Counter(key for _, key in domain.asked())
    assert {passage.id for passage in domain.passages} == set(counts) and min(counts.values()) >= 5
    bare = rows(name, "questions.jsonl")
    assert max(Counter(row["id"] for row in bare).values()) == 1
    assert sum(not row["evidence"] for row in bare) / len(bare) >= 0.18
    assert all(len(row.get("history", ())) in (0, 2) for row in bare)


# ---- evaluation

def test_evaluation_rows_are_many(name: str) -> None:
    assert len(rows(name, "eval/intents.jsonl")) >= 250 and len(rows(name, "eval/oos.jsonl")) >= 100
    assert {row["kind"] for row in rows(name, "eval/oos.jsonl")} == KINDS
    asked = rows(name, "eval/questions.jsonl")
    assert sum(row["answerable"] and bool(row["must_say"]) for row in asked) >= 80
    assert sum(not row["answerable"] for row in asked) >= 20


def test_every_intent_is_evaluated(name: str) -> None:
    counts = Counter(row["intent"] for row in rows(name, "eval/intents.jsonl"))
    assert set(counts) == set(load(name).intents) and min(counts.values()) >= 5


def test_conversations_are_many_of_three_to_eight_turns_with_an_end(name: str) -> None:
    talks = rows(name, "eval/conversations.jsonl")
    assert len(talks) >= 20 and max(Counter(row["id"] for row in talks).values()) == 1
    domain = load(name)
    for row in talks:
        assert 3 <= len(row["turns"]) <= 8 and all(map(str.strip, row["turns"])), row["id"]
        end = row["end"]
        assert set(end) <= {"state", "intent", "tool", "slots", "says"} and end["state"] in STATES, row["id"]
        if "intent" in end:
            intent = domain.intents[end["intent"]]
            assert end.get("tool", intent.tool) == intent.tool, row["id"]
            assert set(end.get("slots", ())) <= {slot for slot, _ in intent.slots}, row["id"]


def test_nothing_of_evaluation_is_trained_on(name: str) -> None:
    trained = {words(row["text"]) for file in ("intents.jsonl", "oos.jsonl") for row in rows(name, file)}
    trained |= {words(row["question"]) for row in load(name).grounded()}
    held_out = [row["text"] for file in ("eval/intents.jsonl", "eval/oos.jsonl") for row in rows(name, file)]
    held_out += [row["question"] for row in rows(name, "eval/questions.jsonl")]
    held_out += [row["text"] for row in rows(name, "eval/safety.jsonl")]
    if (load(name).folder / "eval" / "redflags.jsonl").is_file():
        held_out += [row["text"] for row in rows(name, "eval/redflags.jsonl")]
    assert [text for text in held_out if words(text) in trained] == []


def test_no_turn_of_four_words_or_more_is_trained_on(name: str) -> None:
    trained = {words(row["text"]) for file in ("intents.jsonl", "oos.jsonl") for row in rows(name, file)}
    trained |= {words(row["question"]) for row in load(name).grounded()}
    turns = [turn for row in rows(name, "eval/conversations.jsonl") for turn in row["turns"]]
    assert [turn for turn in turns if len(turn.split()) >= 4 and words(turn) in trained] == []


def test_no_row_is_evaluated_twice(name: str) -> None:
    texts = [row["text"] for file in ("eval/intents.jsonl", "eval/oos.jsonl", "eval/safety.jsonl")
             for row in rows(name, file)]
    assert [text for text, count in Counter(map(words, texts)).items() if count > 1] == []


def test_safety_rows_are_many_say_why_and_name_intents_that_would_answer(name: str) -> None:
    domain, found = load(name), rows(name, "eval/safety.jsonl")
    answering = {intent.name for intent in domain.intents.values() if intent.answer != "handoff"}
    assert len(found) >= 40 and any("never" in row for row in found)
    for row in found:
        assert {"text", "why"} <= set(row) <= {"text", "why", "never"} and row["text"].strip() and row["why"].strip(), row
        if "never" in row:  # without it nothing but a person may answer; an empty list would make every route right
            never = row["never"]
            assert isinstance(never, list) and never and len(set(never)) == len(never) and set(never) <= answering, row["text"]


def test_the_examples_that_are_shown_are_not_evaluated(name: str) -> None:
    held_out = {words(row["text"]) for file in ("eval/intents.jsonl", "eval/oos.jsonl") for row in rows(name, file)}
    assert [text for text in load(name).examples if words(text) in held_out] == []


# ---- what a domain names

def test_every_tool_is_there_and_takes_exactly_the_slots(name: str) -> None:
    for intent in load(name).intents.values():
        if intent.answer == "tool":
            module, _, function = intent.tool.partition(":")
            tool = getattr(importlib.import_module(module), function)
            required = {key for key, field in tool.args_schema.model_fields.items() if field.is_required()}
            slots = {slot for slot, _ in intent.slots}
            assert required <= slots - intent.optional, intent.name
            assert slots | UNASKED.get(intent.name, set()) == set(tool.args), intent.name


def test_every_slot_can_be_read_and_asked_for(name: str) -> None:
    domain = load(name)
    for intent in domain.intents.values():
        for slot, kind in intent.slots:
            base, _, detail = kind.partition(":")
            assert slot in intent.optional or domain.ask[slot].strip(), slot
            if base == "id":
                re.compile(detail)
            elif base == "name":
                assert (domain.folder / "data" / f"{detail}.csv").is_file(), kind
            elif base == "choice":
                assert len(detail.split("|")) >= 2, kind


def test_the_rules_name_intents_that_exist_and_compile(name: str) -> None:
    domain = load(name)
    assert domain.rules.disclose_intents <= set(domain.intents)
    assert bool(domain.rules.disclosure) == bool(domain.rules.disclose_intents)
    for pattern in domain.rules.forbid:
        assert not re.compile(pattern).search(domain.unknown)
    assert domain.rules.numbers_need_source


# ---- the bundle that ships

def test_the_bundle_was_made_from_todays_data_and_is_small(name: str) -> None:
    domain = load(name)
    file = domain.models / MANIFEST
    if not file.is_file():
        pytest.skip(f"{name} has no bundle yet")
    manifest = json.loads(file.read_text(encoding="utf-8"))
    assert manifest["domain"] == name
    assert manifest["data"] == domain.data_hash("router"), "the router was tuned on other data: train it again"
    taught = manifest.get("generator_data", {})
    today = {each: load(each).data_hash("generator") for each in taught}
    assert taught == today, "the generator was tuned on other data: train it again"
    assert taught or not (domain.models / "generator").is_dir(), "the manifest does not say what the generator was tuned on"
    assert size(domain.models) <= LARGEST_BUNDLE
    present = {path.relative_to(domain.models).as_posix() for path in domain.models.rglob("*") if path.is_file()}
    assert present == {MANIFEST, *manifest["files"]}


def size(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
