"""What the trainers read: routed texts with their held-out split, and grounded questions grouped by facts.

Knows a domain's own files and how rows share a prompt; knows no store, no feedback and no people (that is `tuning.dataset`).
"""

import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from agent import prompt
from agent.domain import Domain, asked_as, plain
from agent.types import Passage
from tuning.rows import OOS

SESSION_END = "|"  # an example of a logged turn has the id SESSION|ROW
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
    facts: tuple[str, ...] = ()
    """As they stood in the prompt of a logged turn; empty: the search finds them."""


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
    """Grounded questions of the domain, answered in the words of their evidence.

    A small model learns to find and copy from some hundred rows, and to reword only from many thousands; sections of
    an article are written to be the size of an answer. Unanswerable rows answer with the domain's `unknown` sentence.
    """
    texts = {passage.id: passage.text for passage in domain.passages}
    return [replace(made, answer=" ".join(texts[key] for key in made.evidence) or domain.unknown)
            for made in (example(row, domain) for row in domain.grounded())]


def example(row: dict, domain: Domain) -> Example:
    """A row of dialogues.jsonl, questions.jsonl or eval/questions.jsonl as an Example."""
    answer = row["answer"] if row.get("answerable") else domain.unknown
    return Example(row["id"], tuple(row.get("history", ())), row["question"], answer, tuple(row.get("evidence", ())))


def split_examples(examples: Sequence[Example], share: float, seed: int) -> tuple[list[Example], list[Example]]:
    """(train, held out) by article, of logged turns by session, never by row: what belongs together lies on one side."""
    keys = sorted({_article(example) for example in examples})
    random.Random(seed).shuffle(keys)
    held_keys = set(keys[:max(1, round(share * len(keys)))])
    train = [example for example in examples if _article(example) not in held_keys]
    return train, [example for example in examples if _article(example) in held_keys]


def _article(example: Example) -> str:
    if example.facts:
        return f"session {example.id.rpartition(SESSION_END)[0]}"
    return example.evidence[0].partition("#")[0] if example.evidence else f"row {example.id}"


def make_groups(examples: Sequence[Example], domain: Domain, search: Search, size: int, seed: int) -> list[Group]:
    """Rows that may share facts side by side, with retrieved passages as distractors. Another seed, other groups.

    Facts stand in the order of retrieval, as at serving; evidence that was not retrieved takes the last places. Examples
    that bring their facts keep them as they are.
    """
    order = random.Random(seed)
    passages = {passage.id: passage for passage in domain.passages}
    waiting = [row for row in examples if not row.facts]
    order.shuffle(waiting)
    found = {row.id: choose_facts(row, search) for row in waiting}
    groups = []
    while waiting:
        first = waiting.pop(0)
        chosen = found[first.id]
        members = [first]
        for row in list(waiting):
            if len(members) < size and (set(row.evidence) <= set(chosen) if row.evidence else found[row.id][0] in chosen):
                members.append(row)
                waiting.remove(row)
        facts = tuple(prompt.fact(p.title, p.heading, p.text) for p in (passages[key] for key in chosen))
        groups.append(Group(facts, tuple(members)))
    return groups + _logged([row for row in examples if row.facts], size, order)


def _logged(examples: Sequence[Example], size: int, order: random.Random) -> list[Group]:
    by_facts: dict[tuple[str, ...], list[Example]] = defaultdict(list)
    for row in order.sample(examples, len(examples)):
        by_facts[row.facts].append(row)
    return [Group(facts, tuple(rows[start:start + size]))
            for facts, rows in by_facts.items() for start in range(0, len(rows), size)]


def choose_facts(row: Example, search: Search) -> list[str]:
    """Ids of the passages shown with a row: what was retrieved, best first, with its evidence among them in any case."""
    found = [passage.id for passage in search(asked_as(row.history, row.question), prompt.MAX_FACTS)]
    missing = [key for key in row.evidence if key not in found]
    kept = [key for key in found if key in row.evidence]
    others = [key for key in found if key not in row.evidence][:max(0, prompt.MAX_FACTS - len(kept) - len(missing))]
    return [key for key in found if key in kept or key in others] + missing
