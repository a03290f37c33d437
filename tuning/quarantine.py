"""Which rows wait until a person has looked at them: strangers, neighbours that say otherwise, bursts, trigger phrases.

A row that waits is lost to nobody; it teaches nothing until `tuning.review` has a decision. Knows no file of a domain
and trains nothing; the vectors come from whoever asks.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import sqlalchemy as sa

from agent import connections
from agent.domain import Domain, plain
from agent.errors import DataError
from agent.guard import Guard
from agent.schema import authors as people
from agent.sentences import split_sentences
from agent.store import Store
from tuning.groups import Text
from tuning.likeness import near_pairs, ngrams
from tuning.rows import Row, Waiting
from tuning.sieve import Doubts
from tuning.text_metrics import grounded

Embed = Callable[[Sequence[str]], np.ndarray]
"""texts -> unit vectors [n, width]: `agent.encoder.Encoder(...).embed`, or any function like it."""


@dataclass(frozen=True, slots=True)
class Caution:
    """How much is too much."""

    neighbours: int = 10
    """Nearest rows that are asked about a label."""
    share: float = 0.7
    """Weighted share of them that has to name one other label."""
    few: int = 2
    """So many authors are few."""
    burst: int = 5
    """Rows of one label, alike, from few authors within a day."""
    alike: float = 0.6
    """Jaccard share of 5-letter shingles from which two rows are alike."""
    phrase: int = 3
    """Rows of one label from few authors with a phrase that the domain's rows never use."""
    trusted_after: int = 10
    """Accepted rows that make an author trusted."""


def inspect(rows: Sequence[Row], domain: Domain, authors: Mapping[str, str], seeds: Sequence[Text], embed: Embed | None, *,
            reviewed: Collection[str] = (), doubts: Doubts | None = None,
            caution: Caution | None = None) -> tuple[list[Row], list[Waiting]]:
    """(clear, waiting); `authors`: name -> trusted or blocked, `seeds`: the domain's own router rows.

    Rows whose id is in `reviewed` never wait; `doubts` are reasons that were found before. Without `embed` no neighbour
    is asked. The score of what waits is the number of its reasons; `tuning.review.scored` knows better.
    """
    caution = caution or Caution()
    reasons: Doubts = defaultdict(list, {id: list(found) for id, found in (doubts or {}).items()})
    for row in rows:
        if not row.author:
            reasons[row.id].append("its author has no name")
        elif authors.get(row.author) != "trusted":
            reasons[row.id].append("its author is new")
        reasons[row.id] += answer_doubts(row, domain)
    routed = [row for row in rows if row.part == "router"]
    if embed and any(row.id not in reviewed for row in routed):
        vectors = embed([*(row.question for row in routed), *(seed.text for seed in seeds)])
        labels = [*(str(row.intent) for row in routed), *(seed.intent for seed in seeds)]
        doubted = zip(routed, conflicts(vectors, labels, caution.neighbours, caution.share),
                      far_fetched(vectors, labels, [row.ranked for row in routed], caution.neighbours))
        for row, against, strange in doubted:
            if against or strange:
                reasons[row.id].append("neighbours say otherwise" if against else "neither neighbours nor router thought of it")
    known = [*(seed.text for seed in seeds), *(row["question"] for row in domain.grounded())]
    for row in bursts(rows, caution):
        reasons[row.id].append("one of many rows alike from few people")
    for row, phrase in strange_phrases(rows, known, caution).items():
        reasons[row].append(f"a phrase that only few people use: {phrase}")
    waiting = [Waiting(row, tuple(reasons[row.id]), float(len(reasons[row.id])))
               for row in rows if reasons[row.id] and row.id not in reviewed]
    held = {each.row.id for each in waiting}
    return [row for row in rows if row.id not in held], waiting


def conflicts(vectors: np.ndarray, labels: Sequence[str], k: int = 10, share: float = 0.7) -> np.ndarray:
    """bool [n]: at least this share of a row's k nearest others, weighted by cosine, has one and the same other label.

    `vectors` float [n, width] of unit length; a row is never its own neighbour (leave-one-out). Without another row: False.
    """
    names = {label: number for number, label in enumerate(dict.fromkeys(labels))}
    own = np.array([names[label] for label in labels], dtype=np.int64)
    found = np.zeros(len(own), dtype=bool)
    for lines, near, weight in _nearest(vectors, k):
        votes = np.zeros((len(lines), len(names)))
        np.add.at(votes, (np.arange(len(lines))[:, None], own[near]), weight)
        total = votes.sum(1)
        votes[np.arange(len(lines)), own[lines]] = 0
        found[lines] = (total > 0) & (votes.max(1) >= share * total)
    return found


def far_fetched(vectors: np.ndarray, labels: Sequence[str], ranked: Sequence[Sequence[str]], k: int = 10) -> np.ndarray:
    """bool [len(ranked)]: none of a row's k nearest others has its label, and it is not among the intents `ranked` by the
    router that answered. Of the first rows of `vectors` alone; a row without a ranking is never far-fetched.
    """
    own, found = np.array(labels, dtype=object), np.zeros(len(labels), dtype=bool)
    for lines, near, _ in _nearest(vectors, k):
        found[lines] = ~(own[near] == own[lines][:, None]).any(1)
    return np.array([bool(said) and alone and label not in said for said, alone, label in zip(ranked, found, labels)], bool)


def _nearest(vectors: np.ndarray, k: int) -> Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """(rows [m], their k nearest others [m, k], cosines not below 0 [m, k]), some rows at a time."""
    k = min(k, len(vectors) - 1)
    for start in range(0, len(vectors) if k > 0 else 0, 1024):
        lines = np.arange(start, min(start + 1024, len(vectors)))
        likeness = vectors[lines] @ vectors.T
        likeness[np.arange(len(lines)), lines] = -np.inf
        near = np.argpartition(-likeness, k - 1, axis=1)[:, :k]
        yield lines, near, np.maximum(np.take_along_axis(likeness, near, axis=1), 0)


def answer_doubts(row: Row, domain: Domain) -> list[str]:
    """What the guard would not let pass in an answer that is to be learned, and replies that were meant for one person."""
    if row.part != "generator" or row.signal == "down":
        return []
    guard = Guard(row.facts, numbers_need_source=True, forbid=domain.rules.forbid, unknown=domain.unknown,
                  heard=[row.question, *row.history])
    flags = {guard.check(sentence).flag for sentence in split_sentences(row.answer or "")}
    found = ["figures that no passage holds"] if "unsupported_number" in flags else []
    held = grounded(row.answer or "", [*row.facts, row.question, *row.history])
    if not found and row.signal != "up" and row.answer != domain.unknown and held is not None and held < 0.5:
        found.append("the passages shown do not hold this answer")  # learned as it stands, it would teach to make things up
    found += ["words that the domain forbids"] if "forbidden" in flags else []
    return found + (["a person's reply to one case: does it hold for everybody?"] if row.signal == "reply" else [])


def bursts(rows: Sequence[Row], caution: Caution) -> list[Row]:
    """Rows that belong to many alike, of one label, from few authors, within a day."""
    found: dict[str, Row] = {}
    for group in _by_label(rows):
        beside: dict[int, set[int]] = defaultdict(set)
        for i, j in near_pairs([row.question for row in group], caution.alike):
            beside[i].add(j)
            beside[j].add(i)
        for i, others in beside.items():
            close = [group[j] for j in (i, *others) if timedelta() <= _at(group[j]) - _at(group[i]) <= timedelta(days=1)]
            if len(close) >= caution.burst and len({row.author for row in close}) <= caution.few:
                found |= {row.id: row for row in close}
    return list(found.values())


def strange_phrases(rows: Sequence[Row], known: Iterable[str], caution: Caution) -> dict[str, str]:
    """Id of a row -> its phrase of two to four words that `known` never uses and that few authors use for one label."""
    sizes = (2, 3, 4)
    usual = set().union(*(ngrams(text, size) for text in known for size in sizes))
    found: dict[str, str] = {}
    for group in _by_label(rows):
        users: dict[tuple[str, ...], list[Row]] = defaultdict(list)
        for row in group:
            for phrase in set().union(*(ngrams(row.question, size) for size in sizes)) - usual:
                users[phrase].append(row)
        for phrase, said in users.items():
            if len(said) >= caution.phrase and len({row.author for row in said}) <= caution.few:
                for row in said:
                    found.setdefault(row.id, " ".join(phrase))
    return found


def _by_label(rows: Sequence[Row]) -> Iterable[list[Row]]:
    groups: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        groups[row.part, row.intent or plain(row.answer or "")].append(row)
    return groups.values()


def _at(row: Row) -> datetime:
    at = datetime.fromisoformat(row.created)
    return at if at.tzinfo else at.replace(tzinfo=UTC)


# Authors ------------------------------------------------------------------------------------------


def standing(store: Store, rows: Sequence[Row], decisions: Mapping[str, str], caution: Caution) -> dict[str, str]:
    """Author -> trusted or blocked: as was said, and by himself after enough accepted `rows` (id -> decision), few rejected."""
    with store.reading() as at:
        said = {each.name: each.status for each in at.execute(sa.select(people.c.name, people.c.status))}
    good = Counter(row.author for row in rows if decisions.get(row.id) == "accept")
    bad = Counter(row.author for row in rows if decisions.get(row.id) in ("reject", "relabel"))
    earned = {name: "trusted" for name, count in good.items()
              if name and count >= caution.trusted_after and bad[name] * 10 <= count}
    return earned | said


def trust(store: Store, name: str) -> None:
    """What this author teaches needs no review any more, unless something else speaks against it."""
    _set(store, name, "trusted")


def block(store: Store, name: str) -> None:
    """Nothing that this author says is learned from."""
    _set(store, name, "blocked")


def unjudge(store: Store, name: str) -> None:
    """Take back that this author was trusted or blocked: he stands where his rows put him."""
    with store.writing() as at:
        at.execute(people.delete().where(people.c.name == name))


def _set(store: Store, name: str, status: str) -> None:
    if not name:
        raise DataError("People without a name cannot be trusted or blocked; decide about their rows one by one.")
    with store.writing() as at:
        now = datetime.now(UTC).isoformat(timespec="microseconds")
        connections.replace(at, people, {"name": name, "status": status, "created": now}, "name")
