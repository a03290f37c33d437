"""A domain's rows into training rows: routed texts with held-out split, and grounded questions grouped by facts."""

import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from agent import prompt
from agent.domain import Domain, plain
from agent.types import Passage

OOS = "oos"
Search = Callable[[str, int], Sequence[Passage]]
"""(question, count) -> passages, best first: the retriever that serves."""


@dataclass(frozen=True, slots=True)
class Text:
    """One row for the router; intent `oos` is out of scope."""

    text: str
    intent: str


@dataclass(frozen=True, slots=True)
class Example:
    """One row for the generator."""

    id: str
    history: tuple[str, ...]
    question: str
    answer: str
    evidence: tuple[str, ...]
    tool_result: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    """Examples that are answered from the same facts."""

    facts: tuple[str, ...]
    examples: tuple[Example, ...]


def router_rows(domain: Domain) -> list[Text]:
    """In-scope and out-of-scope rows, without exact doubles."""
    rows = [Text(row["text"], row["intent"]) for row in domain.rows("intents.jsonl")]
    rows += [Text(row["text"], OOS) for row in domain.rows("oos.jsonl")]
    return list({plain(row.text) or row.text: row for row in rows}.values())


def split_rows(rows: Sequence[Text], share: float, seed: int) -> tuple[list[Text], list[Text]]:
    """(train, held out), stratified by intent; every intent keeps at least one row on each side if it has two."""
    by_intent: dict[str, list[Text]] = defaultdict(list)
    for row in rows:
        by_intent[row.intent].append(row)
    train, held = [], []
    for intent in sorted(by_intent):
        mixed = sorted(by_intent[intent], key=lambda row: row.text)
        random.Random(f"{seed}{intent}").shuffle(mixed)
        cut = max(1, round(share * len(mixed))) if len(mixed) > 1 else 0
        held += mixed[:cut]
        train += mixed[cut:]
    return train, held


def generator_rows(domain: Domain) -> list[Example]:
    """Grounded questions of the domain; unanswerable ones answer with the domain's `unknown` sentence."""
    return [example(row, domain) for row in domain.rows("dialogues.jsonl")]


def example(row: dict, domain: Domain) -> Example:
    """A row of dialogues.jsonl or eval/questions.jsonl as an Example."""
    answer = row["answer"] if row["answerable"] else domain.unknown
    return Example(row["id"], tuple(row.get("history", ())), row["question"], answer,
                   tuple(row.get("evidence", ())), row.get("tool_result", ""))


def split_examples(examples: Sequence[Example], share: float, seed: int) -> tuple[list[Example], list[Example]]:
    """(train, held out) by article, never by row: all rows of an article lie on one side."""
    keys = sorted({_article(example) for example in examples})
    random.Random(seed).shuffle(keys)
    held_keys = set(keys[:max(1, round(share * len(keys)))])
    train = [example for example in examples if _article(example) not in held_keys]
    return train, [example for example in examples if _article(example) in held_keys]


def _article(example: Example) -> str:
    return example.evidence[0].partition("#")[0] if example.evidence else f"row {example.id}"


def make_groups(examples: Sequence[Example], domain: Domain, search: Search, size: int, seed: int) -> list[Group]:
    """Rows that may share facts side by side, with retrieved passages as distractors. Another seed, other groups.

    Facts are shown in shuffled order, because at serving the best passage is not always the first.
    """
    order = random.Random(seed)
    passages = {passage.id: passage for passage in domain.passages}
    tools = [Group((row.tool_result,), (row,)) for row in examples if row.tool_result]
    waiting = [row for row in examples if not row.tool_result]
    order.shuffle(waiting)
    found = {row.id: [passage.id for passage in search(" ".join((*row.history[:1], row.question)), 4)] for row in waiting}
    groups = []
    while waiting:
        first = waiting.pop(0)
        chosen = list(dict.fromkeys((*first.evidence, *found[first.id])))[:prompt.MAX_FACTS]
        members = [first]
        for row in list(waiting):
            if len(members) == size:
                break
            if row.evidence and set(row.evidence) <= set(chosen):
                members.append(row)
            elif not row.evidence and set(found[row.id][:2]) & set(chosen):
                members.append(row)  # unanswerable here too, beside passages that look right
            if row in members:
                waiting.remove(row)
        order.shuffle(chosen)
        facts = tuple(prompt.fact(p.title, p.heading, p.text) for p in (passages[key] for key in chosen))
        groups.append(Group(facts, tuple(members)))
    groups += tools
    order.shuffle(groups)
    return groups
