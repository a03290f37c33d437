"""What a router saw in a message: which text it read, the words that carried its decision, the rows that lie nearest.

Asks the router and its encoder and trains nothing; what became of the message is `tuning.explain`'s business.
"""

import hashlib
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from agent.domain import Domain, numbered_rows
from agent.router import Router
from tuning.rows import OOS, Row

MOST = 40
"""Words that are left out one by one; of a longer text as many phrases."""
_UNIT = re.compile("[぀-ヿ㐀-鿿]|[^\\s぀-ヿ㐀-鿿]+")  # a Chinese or Japanese sign is a word


@dataclass(frozen=True, slots=True)
class Known:
    """A row that the router was trained on."""

    text: str
    intent: str
    place: str
    """`file:line`, or turn and author."""


def routed(router: Router, candidates: Sequence[str], ranking: Sequence[Sequence[Any]]) -> str:
    """Of the texts that may have been routed the one whose probabilities are nearest to the logged [(intent, probability)]."""
    probabilities, _ = router.score(candidates)
    known = [(router.labels.index(name), share) for name, share in ranking if name in router.labels]
    off = [sum(abs(row[at] - share) for at, share in known) for row in probabilities]
    return candidates[min(range(len(off)), key=lambda number: (round(off[number], 6), number))]


def weigh(router: Router, text: str) -> tuple[str, float, list[dict[str, Any]]]:
    """(label, its probability, [{"words", "drop"}]): how far the probability falls without each word, most first.

    The label is that of the router alone, or `oos` with the out-of-scope probability; one call of the router for all.
    """
    parts = spans(text)
    inside, outside = router.score([text, *(text[:start] + text[end:] for start, end in parts)])
    if outside[0] > router.threshold:
        label, scores = OOS, outside
    else:
        best = int(inside[0].argmax())
        label, scores = router.labels[best], inside[:, best]
    drops = [{"words": text[start:end], "drop": round(float(scores[0] - score), 4)}
             for (start, end), score in zip(parts, scores[1:])]
    return label, round(float(scores[0]), 4), sorted(drops, key=lambda each: -each["drop"])


def spans(text: str) -> list[tuple[int, int]]:
    """(start, end) of each word; of more than MOST words those of at most MOST phrases that follow one another."""
    words = [match.span() for match in _UNIT.finditer(text)]
    size = max(1, math.ceil(len(words) / MOST))
    phrases = [words[start:start + size] for start in range(0, len(words), size)]
    return [(phrase[0][0], phrase[-1][1]) for phrase in phrases]


def seeds(domain: Domain) -> list[Known]:
    """The domain's own rows for the router as they are today, each text once."""
    files = [domain.folder / name for name in ("intents.jsonl", "oos.jsonl")]
    rows: dict[str, Known] = {}
    for file in files:
        for line, row in numbered_rows(file):
            rows.setdefault(row["text"], Known(row["text"], row.get("intent", OOS), f"{file.name}:{line}"))
    return list(rows.values())


def learned(rows: Sequence[Row]) -> list[Known]:
    """The same of rows that people taught."""
    return [Known(row.question, str(row.intent), f"turn {row.turn} by {row.author or '(no name)'}") for row in rows]


def nearest(router: Router, text: str, own: Sequence[Known], taught: Sequence[Known], cache: Path, key: str,
            count: int = 5) -> list[dict[str, Any]]:
    """[{"text", "intent", "distance", "from"}]: the rows whose vectors lie nearest, by 1 - cosine (0 same, 2 opposite).

    Vectors of the domain's `own` rows are kept in `cache` by `key`, which names the encoder; those of people never are.
    """
    rows = [*own, *taught]
    if not rows:
        return []
    vectors = _cached(cache, key, [row.text for row in own], router.encoder.embed)
    if taught:
        vectors = np.concatenate([vectors, router.encoder.embed([row.text for row in taught])])
    distance = 1 - vectors @ router.encoder.embed([text])[0]
    best = [(rows[at], float(distance[at])) for at in np.argsort(distance, kind="stable")[:count]]
    return [{"text": row.text, "intent": row.intent, "distance": round(far, 4), "from": row.place} for row, far in best]


def _cached(cache: Path, key: str, texts: Sequence[str], embed: Callable[[Sequence[str]], np.ndarray]) -> np.ndarray:
    file = cache / f"{hashlib.sha256(chr(0).join([key, *texts]).encode()).hexdigest()[:32]}.npy"
    if file.is_file():
        return np.load(file, allow_pickle=False)
    vectors = embed(texts)
    cache.mkdir(parents=True, exist_ok=True)
    scratch = file.with_suffix(".tmp.npy")
    np.save(scratch, vectors, allow_pickle=False)
    scratch.replace(file)
    return vectors
