"""Which passages may answer: FAISS over encoder vectors and BM25 over words, fused by rank. Knows no intent model.

The index is cached by content hash, so a second start does not embed again.
"""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from agent.domain import Domain
from agent.encoder import Encoder
from agent.types import Passage

RANK_OFFSET = 20  # of reciprocal rank fusion; smaller than the usual 60 because lists here are short
DEPTH = 20  # how far each list is read


class Index:
    """`search(question, count, intent)` over one domain's passages."""

    def __init__(self, passages: Sequence[Passage], vectors: np.ndarray, encoder: Encoder) -> None:
        import bm25s
        import faiss

        self.passages = tuple(passages)
        self._encoder = encoder
        self._dense = faiss.IndexFlatIP(vectors.shape[1])
        self._dense.add(vectors)
        self._sparse = bm25s.BM25()
        self._sparse.index([words(_searched(passage)) or ["-"] for passage in passages], show_progress=False)

    @classmethod
    def build(cls, domain: Domain, encoder: Encoder, fingerprint: str, cache: Path) -> "Index":
        """The domain's index; vectors come from the cache when articles and encoder are the same as then."""
        texts = [_searched(passage) for passage in domain.passages]
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
        return cls(domain.passages, vectors, encoder)

    def search(self, question: str, count: int, intent: str | None = None) -> list[Passage]:
        """At most `count` passages, best first; those written for `intent` come a little earlier."""
        depth = min(DEPTH, len(self.passages))
        _, dense = self._dense.search(self._encoder.embed([question]), depth)
        scores: dict[int, float] = {}
        for rank, i in enumerate(dense[0]):
            scores[int(i)] = scores.get(int(i), 0.0) + 1.0 / (RANK_OFFSET + rank)
        if tokens := words(question):
            found, weight = self._sparse.retrieve([tokens], k=depth, show_progress=False)
            for rank, (i, value) in enumerate(zip(found[0], weight[0])):
                if value > 0:
                    scores[int(i)] = scores.get(int(i), 0.0) + 0.7 / (RANK_OFFSET + rank)
        for i in scores:
            if intent and intent in self.passages[i].intents:
                scores[i] *= 1.25
        return [self.passages[i] for i in sorted(scores, key=lambda i: -scores[i])[:count]]


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


def _searched(passage: Passage) -> str:
    return f"{passage.title}. {passage.heading}. {passage.text}"
