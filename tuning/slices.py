"""Slices: some paired rows as arrays, with what can be told of their difference. Nothing is decided here."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from tuning import statistics
from tuning.verdict import Pair, Rule


@dataclass(slots=True)
class Slice:
    """Pairs of one part, or of one value of one slice of it; arrays of shape (pairs,), 0/1 or scores from 0 to 1."""

    name: str
    """`router`, or `router intent=refund`."""
    part: str
    key: str | None
    """`intent`, `length`, ...; None for the whole part."""
    before: np.ndarray
    after: np.ndarray
    clusters: Sequence[str]
    resamples: int
    seed: int
    count: int = field(init=False)
    """Pairs."""
    delta: float = field(init=False)
    """Mean difference, after minus before."""
    wins: int = field(init=False)
    """Pairs that got better."""
    losses: int = field(init=False)
    """Pairs that got worse."""
    binary: bool = field(init=False)
    """Whether the pairs are right or wrong, not scores."""
    _drawn: dict[float, statistics.Bounds] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.count, self.delta = len(self.before), float((self.after - self.before).mean())
        self.wins, self.losses = int((self.after > self.before).sum()), int((self.after < self.before).sum())
        self.binary = all(bool(((side == 0) | (side == 1)).all()) for side in (self.before, self.after))

    @classmethod
    def of(cls, pairs: Sequence[Pair], rule: Rule, part: str, key: str = "", value: str = "", *,
           few_shot: bool = False) -> "Slice":
        """The challenger after the champion, or after the few-shot prompt."""
        before = [pair.few_shot if few_shot else pair.champion for pair in pairs]
        return cls(f"{part} {key}={value}" if key else part, part, key or None, np.array(before, dtype=float),
                   np.array([pair.challenger for pair in pairs], dtype=float), [pair.cluster for pair in pairs],
                   rule.resamples, rule.seed)

    @property
    def spread(self) -> float:
        """Share of pairs that differ, with one win and one loss added as in the bound; mean square of scores' differences."""
        if self.binary:
            return (self.wins + self.losses + 2) / (self.count + 2)
        return float(((self.after - self.before) ** 2).mean())

    def resampled(self, alpha: float) -> statistics.Bounds:
        """The clustered bootstrap, drawn once for each alpha, with a seed of the slice's own."""
        if alpha not in self._drawn:
            self._drawn[alpha] = statistics.bootstrap(
                self.after - self.before, self.clusters, alpha=alpha, resamples=self.resamples,
                seed=[self.seed, zlib.crc32(self.name.encode())])
        return self._drawn[alpha]

    def bounds(self, alpha: float) -> tuple[float, float]:
        """One-sided (lower, upper) of delta: the worse of the clustered bootstrap and, for 0/1, the closed bound."""
        drawn = self.resampled(alpha)
        lower, upper = self.closed(alpha) if self.binary else (drawn.lower, drawn.upper)
        return min(drawn.lower, lower), max(drawn.upper, upper)

    def closed(self, alpha: float) -> tuple[float, float]:
        """The bounds of right and wrong without the bootstrap: quick, honest at few pairs, blind to clusters."""
        return statistics.paired(self.wins, self.losses, self.count, alpha)

    def better(self) -> float:
        """One-sided p of a gain: the worse of the exact test of pairs and of the exact test of clusters."""
        if len(set(self.clusters)) == self.count:
            return statistics.mcnemar(self.wins, self.losses)
        flipped = statistics.flip(self.after - self.before, self.clusters, resamples=self.resamples,
                                  seed=[self.seed, zlib.crc32(self.name.encode()), 1])
        return max(flipped, statistics.mcnemar(self.wins, self.losses))

    def widening(self, alpha: float) -> float:
        """How many times more pairs it takes because pairs of a cluster go together, at least 1 (the design effect)."""
        lower, upper = self.bounds(alpha)
        closed = self.closed(alpha) if self.binary else (lower, upper)
        return max(1.0, ((upper - lower) / max(closed[1] - closed[0], 1e-9)) ** 2)

    def told(self) -> str:
        """`router intent=refund: 0.93 → 0.20 over 15 pairs`."""
        return f"{self.name}: {self.before.mean():.2f} → {self.after.mean():.2f} over {self.count} pairs"


def cut(pairs: Sequence[Pair], rule: Rule) -> dict[str, Slice]:
    """By name, in order: each whole part, and each value of its slices with pairs enough that is not all of the part."""
    groups: dict[tuple[str, str, str], list[Pair]] = {}
    for pair in pairs:
        groups.setdefault((pair.part, "", ""), []).append(pair)
        for key, value in pair.slices.items():
            groups.setdefault((pair.part, key, value), []).append(pair)
    found = [Slice.of(rows, rule, part, key, value) for (part, key, value), rows in sorted(groups.items())
             if not key or rule.smallest <= len(rows) < len(groups[part, "", ""])]
    return {each.name: each for each in found}
