"""How alike texts are by letters and words: shingles, n-grams, pairs above a Jaccard share. Knows no rows and no model."""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from agent.domain import plain

_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W\u3040-\u30ff\u3400-\u9fff]+")


def words(text: str) -> list[str]:
    """Lower-case words in order; of Chinese and Japanese, which write no spaces, characters."""
    return _WORD.findall(text.lower())


def ngrams(text: str, size: int) -> set[tuple[str, ...]]:
    """Every run of `size` words."""
    said = words(text)
    return {tuple(said[start:start + size]) for start in range(len(said) - size + 1)}


def shingles(text: str, size: int = 5) -> frozenset[str]:
    """Every run of `size` letters of the plain text; a shorter text is its own one."""
    said = plain(text) or text.strip()
    return frozenset(said[start:start + size] for start in range(max(1, len(said) - size + 1)))


def jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    """Shared share of two sets, 0 to 1."""
    shared = len(one & other)
    return shared / (len(one) + len(other) - shared) if shared else 0.0


def near_pairs(texts: Sequence[str], least: float) -> Iterator[tuple[int, int]]:
    """(i, j), i < j, of every two texts whose shingles have at least this Jaccard share. Exact, and no full comparison.

    Two sets that are so alike must share one of their rarest few members (prefix filtering: Bayardo et al., 2007).
    """
    sets = [shingles(text) for text in texts]
    often = Counter(piece for each in sets for piece in each)
    seen: dict[str, list[int]] = defaultdict(list)
    for j, each in enumerate(sets):
        rarest = sorted(each, key=lambda piece: (often[piece], piece))[:len(each) - math.ceil(least * len(each)) + 1]
        for i in sorted({i for piece in rarest for i in seen[piece]}):
            if jaccard(sets[i], each) >= least:
                yield i, j
        for piece in rarest:
            seen[piece].append(j)
