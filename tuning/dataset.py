"""Feedback into rows that can be trained on, each step on one screen: harvest, review, sieve, quarantine, weights.

Knows the order of the steps; what each of them decides is in its own room. Trains nothing. The rows of the domain's own
files, and how rows share a prompt, are in `tuning.groups`.
"""

import hashlib
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from agent.domain import Domain
from agent.errors import DataError
from agent.registry import Bundle
from agent.store import Store
from tuning import quarantine, review, sieve
from tuning.groups import (
    SESSION_END,
    Example,
    Group,
    Search,
    Text,
    choose_facts,
    example,
    generator_rows,
    make_groups,
    router_rows,
    split_examples,
    split_rows,
)
from tuning.harvest import harvest
from tuning.quarantine import Caution, Embed
from tuning.rows import OOS, Dropped, Row, Waiting

__all__ = ["OOS", "Dataset", "DatasetRule", "Example", "Group", "Search", "Text", "build", "check_trainable", "choose_facts",
           "example", "examples", "generator_rows", "make_groups", "router_rows", "split_by_session", "split_examples",
           "split_rows", "texts"]


@dataclass(frozen=True, slots=True)
class DatasetRule:
    """What is let in."""

    per_author: int = 200
    """Rows of one author for each part; the newest are kept."""
    near: float = 0.8
    """Jaccard share of 5-letter shingles from which two questions are doubles."""
    overlap: int = 13
    """Words in a row that may not stand in the evaluation set."""
    newest: int = 2
    """Weight of rows that the champion cannot have learned from."""
    caution: Caution = field(default_factory=Caution)


@dataclass(frozen=True, slots=True)
class Dataset:
    """What people taught, ready to train on, and what became of the rest."""

    domain: str
    router: tuple[Row, ...]
    generator: tuple[Row, ...]
    """Answers to learn: up, correction, reply."""
    down: tuple[Row, ...]
    """Answers to avoid."""
    waiting: tuple[Waiting, ...]
    """The most informative first."""
    dropped: tuple[Dropped, ...]
    neighbours_asked: bool

    @property
    def pairs(self) -> tuple[Row, ...]:
        """Rows with a better and a worse answer, for DPO."""
        return tuple(row for row in self.generator if row.rejected)

    @property
    def thumbs(self) -> tuple[Row, ...]:
        """Liked and disliked replies, for KTO."""
        return tuple(row for row in self.generator if row.signal == "up") + self.down

    @property
    def hash(self) -> str:
        """sha256 over the ids of all rows that train, whatever their order."""
        ids = sorted(row.id for row in (*self.router, *self.generator, *self.down))
        return hashlib.sha256("\n".join(ids).encode()).hexdigest()

    def summary(self) -> dict[str, Any]:
        """Counts by part and signal, waiting and dropped by reason; what `--dry-run` prints."""
        waiting = Counter(reason.partition(":")[0] for each in self.waiting for reason in each.reasons)
        return {
            "domain": self.domain, "hash": self.hash,
            "router": _signals(self.router), "generator": _signals(self.generator), "down": len(self.down),
            "pairs": len(self.pairs), "thumbs": len(self.thumbs), "authors": len({row.author for row in self._all()}),
            "waiting": {"rows": len(self.waiting)} | dict(waiting.most_common()),
            "dropped": {"rows": len(self.dropped)} | dict(
                Counter(each.reason.partition(":")[0] for each in self.dropped).most_common()),
            "neighbours_asked": self.neighbours_asked,
        }

    def _all(self) -> tuple[Row, ...]:
        return (*self.router, *self.generator, *self.down)


def build(domain: Domain, store: Store, rule: DatasetRule | None = None, encoder: Embed | None = None,
          champion: Bundle | None = None) -> Dataset:
    """The rows that feedback gives today. `encoder`: `Encoder(...).embed`; without it no neighbour is asked about a label.

    `champion`: rows newer than it weigh more. Nothing is written, so the same store gives the same rows.
    """
    rule, seeds = rule or DatasetRule(), router_rows(domain)
    rows, dropped = harvest(store, domain)
    decided = review.decisions(store, domain)
    authors = quarantine.standing(store, rows, {id: said.decision for id, said in decided.items()}, rule.caution)

    rows, reviewed, gone = review.apply(rows, decided)
    dropped += gone

    def rank(row: Row) -> tuple[bool, bool, datetime, str]:
        return row.id in reviewed, authors.get(row.author) == "trusted", _time(row.created), row.id

    rows, gone = sieve.unwanted(rows, domain, authors, seeds)
    dropped += gone
    rows, doubts, gone = sieve.contradictions(rows, seeds, reviewed)
    dropped += gone
    everything = rows
    for each in (lambda rows: sieve.doubles(rows, rule.near, rank), lambda rows: sieve.evaluated(rows, domain, rule.overlap),
                 lambda rows: sieve.capped(rows, rule.per_author, rank)):
        rows, gone = each(rows)
        dropped += gone
    clear, waiting = quarantine.inspect(rows, domain, authors, seeds, encoder, reviewed=reviewed, doubts=doubts,
                                        caution=rule.caution)
    made = _time(champion.manifest["made"]) if champion else None
    clear = [replace(row, weight=rule.newest) if made and _time(row.created) > made else row for row in clear]
    return Dataset(
        domain.name, router=tuple(row for row in clear if row.part == "router"),
        generator=tuple(row for row in clear if row.part == "generator" and row.signal != "down"),
        down=tuple(row for row in clear if row.signal == "down"),
        waiting=tuple(review.queue(review.scored(store, waiting, everything))), dropped=tuple(dropped),
        neighbours_asked=encoder is not None)


def check_trainable(rows: Sequence[Row], seeds: Sequence[Text]) -> None:
    """Raise DataError unless router `rows` and the domain's own `seeds` hold at least two intents."""
    labels = {str(row.intent) for row in rows} | {seed.intent for seed in seeds}
    if not labels:
        raise DataError("There is no row to train the router on; give feedback, or write rows in intents.jsonl.")
    if len(labels - {OOS}) < 2:
        raise DataError(f"All rows of the router say {min(labels - {OOS}, default=OOS)!r} and it needs two intents or more; "
                        "label some turns otherwise, or write rows in intents.jsonl.")


def texts(rows: Iterable[Row]) -> list[Text]:
    """Router rows for the trainer, each as often as it weighs."""
    return [Text(row.question, str(row.intent)) for row in rows for _ in range(row.weight)]


def examples(rows: Iterable[Row]) -> list[Example]:
    """Generator rows for the trainer with the facts of their prompt, each as often as it weighs; ids tell the session."""
    return [Example(f"{row.session or row.id}{SESSION_END}{row.id}.{copy}", row.history, row.question, row.answer or "", (),
                    row.facts or ("(none)",))  # as prompt.render shows that there were none
            for row in rows for copy in range(row.weight)]


def split_by_session(rows: Sequence[Row], share: float, seed: int) -> tuple[list[Row], list[Row]]:
    """(train, held out): all rows of a session lie on one side; with two sessions or more each side has at least one."""
    sessions = sorted({row.session or row.id for row in rows})
    random.Random(seed).shuffle(sessions)
    held = set(sessions[:max(1, round(share * len(sessions)))] if len(sessions) > 1 else [])
    train = [row for row in rows if (row.session or row.id) not in held]
    return train, [row for row in rows if (row.session or row.id) in held]


def _signals(rows: Sequence[Row]) -> dict[str, int]:
    return {"rows": len(rows)} | dict(Counter(row.signal for row in rows).most_common())


def _time(iso: str) -> datetime:
    at = datetime.fromisoformat(iso)
    return at if at.tzinfo else at.replace(tzinfo=UTC)
