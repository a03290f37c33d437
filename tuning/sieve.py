"""What keeps rows out of training for good: doubles, words of the evaluation set, too many of one author, labels that are gone.

Every function takes rows and gives back those that stay and those that go, with the reason. Knows no store and no model;
what a person could still decide is left to `tuning.quarantine`.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from agent.domain import Domain, plain, read_rows
from tuning.groups import Text
from tuning.likeness import near_pairs, ngrams
from tuning.rows import OOS, Dropped, Row

Sieved = tuple[list[Row], list[Dropped]]
Doubts = dict[str, list[str]]
"""Id of a row -> why a person has to look at it."""
ASKED = ("text", "question", "turns", "history")
"""Keys of evaluation rows under which people speak."""


def words_of(row: Row) -> str:
    """The question as it is compared: its words, or its signs where there are none."""
    return plain(row.question) or row.question.strip()


def part(rows: Iterable[Row], reason_of: Callable[[Row], str]) -> Sieved:
    """Rows without a reason stay; the others go with it."""
    kept, dropped = [], []
    for row in rows:
        if reason := reason_of(row):
            dropped.append(Dropped(row, reason))
        else:
            kept.append(row)
    return kept, dropped


def unwanted(rows: Sequence[Row], domain: Domain, authors: Mapping[str, str], seeds: Sequence[Text]) -> Sieved:
    """Without blocked authors, labels that the domain no longer has, and what the domain's own files say already."""
    taught = {plain(seed.text) or seed.text.strip(): seed.intent for seed in seeds}

    def reason(row: Row) -> str:
        if authors.get(row.author) == "blocked":
            return "its author is blocked"
        if row.part != "router":
            return ""
        if row.intent != OOS and row.intent not in domain.intents:
            return f"the domain no longer has this intent: {row.intent}"
        if (known := taught.get(words_of(row))) == row.intent:
            return "a double of the domain's own rows"
        if row.signal == "none_of_these" and known and row.intent == OOS:
            return "by now the domain has an intent for these words"
        return ""

    return part(rows, reason)


def contradictions(rows: Sequence[Row], seeds: Sequence[Text],
                   reviewed: Collection[str]) -> tuple[list[Row], Doubts, list[Dropped]]:
    """(kept, doubts, dropped): of one author the newest word counts; where authors differ, all of them are in doubt.

    A reviewed row decides: others that say something else about the same words go.
    """
    kept, dropped = part(rows, _taken_back(rows))
    taught = {plain(seed.text) or seed.text.strip(): seed.intent for seed in seeds}
    said, thumbs = defaultdict(list), defaultdict(set)
    for row in kept:
        if row.part == "router":
            said[words_of(row)].append(row)
        elif row.signal in ("up", "down"):
            thumbs[row.turn].add(row.signal)
    doubts: Doubts = defaultdict(list)
    decided = {key: row.intent for key, same in said.items() for row in same if row.id in reviewed}  # the newest comes last
    for key, same in said.items():
        for row in same if key not in decided else ():
            if len({each.intent for each in same}) > 1:
                doubts[row.id].append("authors disagree about the same words")
            if taught.get(key, row.intent) != row.intent:
                doubts[row.id].append(f"the domain's own rows say otherwise: {taught[key]}")
    for row in kept:
        if row.part == "generator" and row.signal in ("up", "down") and len(thumbs[row.turn]) > 1:
            doubts[row.id].append("the same reply was liked and disliked")

    def overruled(row: Row) -> str:
        other = row.part == "router" and decided.get(words_of(row), row.intent) != row.intent
        return "a reviewer decided otherwise about the same words" if other else ""

    kept, more = part(kept, overruled)
    return kept, dict(doubts), dropped + more


def _taken_back(rows: Sequence[Row]) -> Callable[[Row], str]:
    """People without a name are not one person, so only a named author can change his mind."""
    newest = {(row.author, words_of(row)): row for row in sorted(rows, key=lambda row: row.created)
              if row.part == "router" and row.author}

    def reason(row: Row) -> str:
        last = newest.get((row.author, words_of(row))) if row.part == "router" else None
        return "its author said otherwise later" if last and last.intent != row.intent else ""

    return reason


def doubles(rows: Sequence[Row], near: float, rank: Callable[[Row], Any]) -> Sieved:
    """One of the rows that say the same, exactly or nearly (Jaccard share of 5-letter shingles); the highest rank stays."""
    same: dict[Any, list[Row]] = defaultdict(list)
    for row in sorted(rows, key=rank, reverse=True):
        same[_lesson(row)].append(row)
    gone: dict[str, str] = {}
    for group in same.values():
        seen: set[str] = set()
        for row in group:
            if words_of(row) in seen:
                gone[row.id] = "a double"
            seen.add(words_of(row))
        group = [row for row in group if row.id not in gone]
        for i, j in near_pairs([row.question for row in group], near):
            if group[i].id not in gone:
                gone.setdefault(group[j].id, "nearly a double")
    return part(rows, lambda row: gone.get(row.id, ""))


def _lesson(row: Row) -> Any:
    """What a row teaches about its question."""
    if row.part == "router":
        return row.intent
    return row.signal == "down", plain(row.answer or "") or row.answer, row.history


def evaluated(rows: Sequence[Row], domain: Domain, size: int) -> Sieved:
    """Without rows that share `size` words in a row with the evaluation set, or whose question is one of its.

    Words that an article holds too do not count: answers quote articles, in training as in evaluation.
    """
    texts = [text for file in sorted((domain.folder / "eval").glob("*.jsonl")) for row in read_rows(file)
             for text in strings(row)]
    public = set().union(*(ngrams(passage.text, size) for passage in domain.passages))
    kept_back = set().union(*(ngrams(text, size) for _, text in texts)) - public
    asked = {plain(text) or text.strip() for key, text in texts if key in ASKED}

    def reason(row: Row) -> str:
        if words_of(row) in asked:
            return "its question stands in the evaluation set"
        said = (row.question, row.answer or "", row.rejected or "")
        shared = any(ngrams(text, size) & kept_back for text in said)
        return f"{size} words in a row stand in the evaluation set" if shared else ""

    return part(rows, reason)


def strings(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """(key, text) of every text in a JSON value, however deep; a list hands its key down."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, list):
        for each in value:
            yield from strings(each, key)
    elif isinstance(value, dict):
        for name, each in value.items():
            yield from strings(each, name)


def capped(rows: Sequence[Row], most: int, rank: Callable[[Row], Any]) -> Sieved:
    """At most so many rows of each author for each part, the highest ranks; people without a name count as one."""
    count: dict[tuple[str, str], int] = defaultdict(int)
    gone = set()
    for row in sorted(rows, key=rank, reverse=True):
        count[row.author, row.part] += 1
        if count[row.author, row.part] > most:
            gone.add(row.id)
    return part(rows, lambda row: f"more than {most} rows of one author" if row.id in gone else "")

