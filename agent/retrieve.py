"""Which passages may answer: FAISS over encoder vectors and BM25 over words, fused by rank. Knows no intent model.

A passage is found by its own text and by the questions that are known to be answered by it, which are closer to how
people ask. The index is cached by content hash, so a second start does not embed again.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from agent.domain import Domain
from agent.encoder import Encoder
from agent.types import Passage

RANK_OFFSET = 20  # of reciprocal rank fusion; smaller than the usual 60 because lists here are short
DEPTH = 20  # how many passages of each list are read
WIDTH = 100  # how many entries are read to find them: a passage has several


class Index:
    """`search(question, count, intent)` over one domain's passages."""

    def __init__(self, passages: Sequence[Passage], asked: Sequence[tuple[str, str]], vectors: np.ndarray, encoder: Encoder) -> None:
        """`asked`: (question, id of the passage that answers it); `vectors` [passages + asked, hidden] in that order."""
        import bm25s
        import faiss

        self.passages = tuple(passages)
        number = {passage.id: i for i, passage in enumerate(passages)}
        self._owner = np.array([*range(len(passages)), *(number[key] for _, key in asked)])
        self._same: dict[str, list[int]] = {}
        for entry, (question, _) in enumerate(asked, start=len(passages)):
            self._same.setdefault(question, []).append(entry)
        self._encoder = encoder
        self._dense = faiss.IndexFlatIP(vectors.shape[1])
        self._dense.add(vectors)
        self._sparse = bm25s.BM25()
        self._sparse.index([words(text) or ["-"] for text in _texts(passages, asked)], show_progress=False)

    @classmethod
    def build(cls, domain: Domain, encoder: Encoder, fingerprint: str, cache: Path) -> "Index":
        """The domain's index; vectors come from the cache when texts and encoder are the same as then."""
        asked = domain.asked()
        texts = _texts(domain.passages, asked)
        key = hashlib.sha256("\0".join([fingerprint, *texts]).encode()).hexdigest()[:32]
        file = cache / f"{key}.npy"
        if file.is_file():
            vectors = np.load(file, allow_pickle=False)
        else:
            vectors = encoder.embed(texts)
            cache.mkdir(parents=True, exist_ok=True)
            scratch = file.with_suffix(".tmp.npy")
            np.save(scratch, vectors, allow_pickle=False)
            scratch.replace(file)
        return cls(domain.passages, asked, vectors, encoder)

    def search(self, question: str, count: int, intent: str | None = None, unseen: bool = False) -> list[Passage]:
        """At most `count` passages, best first; those written for `intent` come a little earlier.

        `unseen`: as if this very question were not among the known ones, which is how training has to see it.
        """
        hidden = self._same.get(question, []) if unseen else []
        width = min(WIDTH + len(hidden), len(self._owner))
        likeness, entries = self._dense.search(self._encoder.embed([question]), width)
        scores = _fused(self._ranked(entries[0], likeness[0], hidden), 1.0)
        if tokens := words(question):
            entries, weight = self._sparse.retrieve([tokens], k=width, show_progress=False)
            for i, score in _fused(self._ranked(entries[0], weight[0], hidden), 0.7).items():
                scores[i] = scores.get(i, 0.0) + score
        for i in scores:
            if intent and intent in self.passages[i].intents:
                scores[i] *= 1.25
        return [self.passages[i] for i in sorted(scores, key=lambda i: -scores[i])[:count]]

    def _ranked(self, entries: Iterable[int], values: Iterable[float], hidden: Sequence[int]) -> list[int]:
        """The passages of entries that are given best first; each once, at the place of its best entry."""
        kept = [int(self._owner[entry]) for entry, value in zip(entries, values) if value > 0 and entry not in hidden]
        return list(dict.fromkeys(kept))[:DEPTH]


def _fused(ranked: Sequence[int], weight: float) -> dict[int, float]:
    return {passage: weight / (RANK_OFFSET + rank) for rank, passage in enumerate(ranked)}


def _texts(passages: Sequence[Passage], asked: Sequence[tuple[str, str]]) -> list[str]:
    return [f"{passage.title}. {passage.heading}. {passage.text}" for passage in passages] + [question for question, _ in asked]


_STOP = frozenset("a an and are as at be but by can could do does for from had has have how i if in is it its me my of on "
                  "or our so that the their them there they this to was we what when where which who why will with "
                  "would you your im ive id".split())


def words(text: str) -> list[str]:
    """Lower-case words without the commonest ones, lightly stemmed; Chinese and Japanese by overlapping pairs."""
    found = []
    for token in re.findall(r"[぀-ヿ㐀-鿿]+|[^\W_]+", text.lower().replace("'", "")):
        if "぀" <= token[0] <= "鿿":
            found += [token[i:i + 2] for i in range(max(1, len(token) - 1))]
        elif token not in _STOP:
            found.append(_stem(token))
    return found


def _stem(token: str) -> str:
    for ending in ("ing", "ies", "ed", "es", "s"):
        if token.endswith(ending) and len(token) - len(ending) >= 3:
            return token[:-len(ending)] + ("y" if ending == "ies" else "")
    return token
