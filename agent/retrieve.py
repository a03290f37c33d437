"""Which passages may answer: encoder vectors (FAISS where there are many) and BM25 over words, added up. Knows no intents.

A passage is found by its own text and by the questions that are known to be answered by it, which are closer to how
people ask. The index is cached by content hash, so a second start does not embed again.
"""

import hashlib
import re
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from agent.domain import Domain
from agent.encoder import Encoder, Shared
from agent.types import Passage

WORDS = 0.05  # of the root of a BM25 score beside a cosine; measured on rows of training
CLEAR = 0.1  # a passage this far behind the first is not shown: there the first is right in 0.92 to 0.97 of written dialogues
SURE = 1.2  # score above which 0.77 to 0.89 of written dialogues lie and 0.01 to 0.06 of messages that are out of scope
QUICK = 3000  # texts of which a search takes about a millisecond


class Index:
    """`search(question, count)` over one domain's passages."""

    def __init__(self, passages: Sequence[Passage], asked: Sequence[tuple[str, str]], vectors: np.ndarray,
                 encoder: Encoder | Shared) -> None:
        """`asked`: (question, id of the passage that answers it); `vectors` [passages + asked, hidden] in that order."""
        import bm25s
        import faiss

        self.passages, self._encoder = tuple(passages), encoder
        number = {passage.id: i for i, passage in enumerate(passages)}
        owner = np.array([number[key] for _, key in asked], dtype=int)
        self._order = np.argsort(owner, kind="stable")  # the known questions, those of a passage together
        self._owners, self._begins = np.unique(owner[self._order], return_index=True)
        self._questions = np.array([question for question, _ in asked], dtype=object)
        self._vectors, self._dense = vectors, None
        if not self.quick:
            self._dense = faiss.IndexFlatIP(vectors.shape[1])
            self._dense.add(vectors)
        self._sparse = bm25s.BM25()
        self._sparse.index([words(text) or ["-"] for text in _texts(passages, asked)], show_progress=False)
        self._ahead = ThreadPoolExecutor(2, thread_name_prefix="look-up")

    @classmethod
    def build(cls, domain: Domain, encoder: Encoder | Shared, fingerprint: str, cache: Path) -> "Index":
        """The domain's index; vectors come from the cache when texts and encoder are the same as then."""
        asked = domain.asked()
        texts = _texts(domain.passages, asked)
        key = hashlib.sha256("\0".join([fingerprint, encoder.precision, *texts]).encode()).hexdigest()[:32]
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

    @property
    def quick(self) -> bool:
        """Whether a search for a vector that is there may be done on an event loop."""
        return len(self._vectors) <= QUICK

    def ahead(self, question: str) -> Future[np.ndarray]:
        """The question's vector [1, hidden], computed beside whatever the caller does meanwhile; for `search` and `sure`."""
        return self._ahead.submit(self._encoder.embed, [question])

    def search(self, question: str, count: int, unseen: bool = False, clear: float = CLEAR,
               vector: np.ndarray | None = None) -> list[Passage]:
        """At most `count` passages, best first, none of them `clear` or more behind the first.

        `unseen`: as if this very question were not among the known ones, which is how training has to see it.
        `vector`: the question's, where it is there already.
        """
        score = self._scores(question, unseen, vector)
        best = np.argsort(-score, kind="stable")[:count]
        return [self.passages[i] for i in best if score[best[0]] - score[i] < clear]

    def sure(self, question: str, vector: np.ndarray | None = None) -> Passage | None:
        """The best passage if the question is so like what it is known to answer that it can hardly be about something else."""
        score = self._scores(question, vector=vector)
        return self.passages[int(score.argmax())] if score.size and score.max() >= SURE else None

    def _scores(self, question: str, unseen: bool = False, vector: np.ndarray | None = None) -> np.ndarray:
        """[passages]"""
        vector = self._encoder.embed([question]) if vector is None else vector
        dense = self._likeness(vector)
        tokens = words(question)
        sparse = np.sqrt(self._sparse.get_scores(tokens)) if tokens else np.zeros_like(dense)
        known = self._questions != question if unseen else np.ones(len(self._questions), dtype=bool)
        return self._by_passage(dense, known) + WORDS * self._by_passage(sparse, known)

    def _likeness(self, vector: np.ndarray) -> np.ndarray:
        """[passages + asked]; a small index needs no search, which would put all of it in order."""
        if self._dense is None:
            return np.einsum("ij,j->i", self._vectors, vector[0]).astype(float)  # `@` wakes threads, which then spin
        likeness, entries = self._dense.search(vector, self._dense.ntotal)
        dense = np.zeros(self._dense.ntotal)
        dense[entries[0]] = likeness[0]
        return dense

    def _by_passage(self, score: np.ndarray, known: np.ndarray) -> np.ndarray:
        """[passages]: the score of its text plus the best of its known questions; without one its text counts twice."""
        own, asked = score[:len(self.passages)], score[len(self.passages):]
        best = np.full(len(own), -np.inf)
        if len(asked):
            best[self._owners] = np.maximum.reduceat(np.where(known, asked, -np.inf)[self._order], self._begins)
        return own + np.where(np.isinf(best), own, best)


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
