"""Tests, intervals and sequential watches over zeros and ones: numbers in, numbers out.

It knows nothing of models, rows or decisions; `tuning/gate.py` and `tuning/watch.py` decide with it. Every test and every
bound is one-sided at `alpha` unless its docstring says otherwise.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np

CELLS = 2_000_000  # numbers that the bootstrap holds at once


@lru_cache(maxsize=4096)
def mcnemar(wins: int, losses: int) -> float:
    """Exact one-sided p that wins outnumber losses: P(X >= wins), X binomial(wins + losses, 1/2) (McNemar, 1947).

    1.0 where nothing differs. `mcnemar(losses, wins)` is the test of the other direction.
    """
    trials = wins + losses
    term = total = math.comb(trials, wins)
    for k in range(wins, trials):
        term = term * (trials - k) // (k + 1)
        total += term
    return total / 2**trials


def fisher(inside: int, group: int, events: int, total: int) -> float:
    """Exact one-sided p that events crowd in a group: `inside` of its rows, `events` of all `total` rows (Fisher, 1935)."""
    ways = sum(math.comb(events, k) * math.comb(total - events, group - k) for k in range(inside, min(events, group) + 1))
    return ways / math.comb(total, group)


def holm(p: Sequence[float]) -> list[float]:
    """Adjusted p-values in the order given: each may be compared with alpha (Holm, 1979)."""
    adjusted, worst = [0.0] * len(p), 0.0
    for rank, i in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        worst = max(worst, min(1.0, p[i] * (len(p) - rank)))
        adjusted[i] = worst
    return adjusted


def reachable(smallest: Sequence[float], alpha: float) -> list[int]:
    """Indices of the tests that could be significant at all, given the smallest p each can reach (Tarone, 1990).

    A test of three discordant pairs cannot go below 1/8; it need not be paid for in the correction of the others.
    """
    for count in range(1, len(smallest) + 1):
        able = [i for i, p in enumerate(smallest) if p <= alpha / count]
        if len(able) <= count:
            return able
    return []


def wilson(successes: float, trials: int, alpha: float = 0.05) -> tuple[float, float]:
    """Two-sided interval of a rate at 1 - alpha (Wilson, 1927); (0, 1) of no trials."""
    if not trials:
        return 0.0, 1.0
    z, rate = _z(alpha / 2), successes / trials
    middle = (rate + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * math.sqrt(rate * (1 - rate) / trials + z * z / (4 * trials**2))
    return max(0.0, middle - half), min(1.0, middle + half)


def paired(wins: int, losses: int, pairs: int, alpha: float = 0.05) -> tuple[float, float]:
    """Bounds (lower, upper) of the difference of two paired rates, honest at few pairs (Bonett and Price, 2012).

    One win and one loss are added, so that twenty pairs without a difference are no proof that there is none.
    """
    won, lost = (wins + 1) / (pairs + 2), (losses + 1) / (pairs + 2)
    half = _z(alpha) * math.sqrt((won + lost - (won - lost) ** 2) / (pairs + 2))
    return max(-1.0, won - lost - half), min(1.0, won - lost + half)


@dataclass(frozen=True, slots=True)
class Bounds:
    """A mean difference with what the bootstrap says of it."""

    delta: float
    lower: float
    """One-sided."""
    upper: float
    """One-sided."""
    low: float
    """Two-sided, with `high`."""
    high: float
    not_below: float
    """Share of resamples that are not below zero: the p of a fall."""


def bootstrap(differences: np.ndarray, clusters: Sequence[str], *, alpha: float = 0.05, resamples: int = 10_000,
              seed: int | Sequence[int] = 0) -> Bounds:
    """Percentile bootstrap of the mean of paired differences; whole clusters are drawn (Miller, 2024).

    differences: shape (pairs,), clusters: their names. The spread is widened by sqrt(C / (C - 1)) for C clusters, and one
    cluster alone bounds nothing. Clusters of the same size and sum are interchangeable, so it is enough to draw how often
    each kind occurs, which is the same distribution and independent of the order of the pairs.
    """
    differences = np.asarray(differences, dtype=float)
    _, which = np.unique(np.asarray(clusters), return_inverse=True)
    sums, sizes = np.bincount(which, differences), np.bincount(which).astype(float)
    delta, count = float(differences.mean()), len(sums)
    if count == 1:
        return Bounds(delta, -1.0, 1.0, -1.0, 1.0, 1.0)
    kinds, often = np.unique(np.column_stack([sums.round(12), sizes]), axis=0, return_counts=True)
    rng, means = np.random.default_rng(seed), []
    step = max(1, CELLS // len(kinds))
    for start in range(0, resamples, step):
        drawn = rng.multinomial(count, often / count, size=min(step, resamples - start)).astype(float)
        means.append((drawn @ kinds[:, 0]) / (drawn @ kinds[:, 1]))
    spread = delta + (np.concatenate(means) - delta) * math.sqrt(count / (count - 1))
    lower, upper, low, high = np.quantile(spread, [alpha, 1 - alpha, alpha / 2, 1 - alpha / 2])
    not_below = (1 + int((spread >= 0).sum())) / (1 + resamples)
    return Bounds(delta, float(lower), float(upper), float(low), float(high), not_below)


def flip(differences: np.ndarray, clusters: Sequence[str], *, resamples: int = 10_000, seed: int | Sequence[int] = 0) -> float:
    """One-sided p that the sum of differences is above zero, by exchanging the two sides of whole clusters.

    Exact however alike the pairs of a cluster are, where `mcnemar` takes every pair as news; drawn, so never below
    1 / (resamples + 1). 1.0 where nothing differs.
    """
    _, which = np.unique(np.asarray(clusters), return_inverse=True)
    sums = np.bincount(which, np.asarray(differences, dtype=float)).round(12)
    sizes, often = np.unique(np.abs(sums[sums != 0]), return_counts=True)
    if not len(sizes):
        return 1.0
    kept = np.random.default_rng(seed).binomial(often, 0.5, size=(resamples, len(sizes)))
    totals = (2 * kept - often) @ sizes
    return (1 + int((totals >= sums.sum() - 1e-9).sum())) / (1 + resamples)


def pairs_for_superiority(delta: float, discordance: float, *, alpha: float = 0.05, power: float = 0.8, sides: int = 1) -> int:
    """Pairs that show a true difference `delta` > 0 with this power.

    discordance: share of pairs on which the two differ, or the mean squared difference of scores.
    """
    assert delta > 0, f"a difference to be shown is positive, got {delta}"
    return _pairs(delta, max(discordance, delta) - delta**2, alpha / sides, power)


def pairs_for_noninferiority(margin: float, discordance: float, *, delta: float = 0.0, alpha: float = 0.05,
                             power: float = 0.8) -> int:
    """Pairs that show a true difference `delta` > -margin to lie above -margin with this power."""
    assert margin + delta > 0, f"a difference of {delta} cannot be shown to lie above {-margin}"
    return _pairs(margin + delta, max(discordance, abs(delta)) - delta**2, alpha, power)


def _pairs(distance: float, variance: float, alpha: float, power: float) -> int:
    return max(1, math.ceil((_z(alpha) + _z(1 - power)) ** 2 * variance / distance**2 - 1e-9))


def _z(tail: float) -> float:
    return NormalDist().inv_cdf(1 - tail)


class RateWatch:
    """Alarms when a rate falls below its baseline, and may be asked after every observation.

    An e-process: a bet that the rate fell to q since some time s, averaged over q below the baseline and over s, whose
    wealth never grows in expectation while the mean of x stays at or above the baseline. So the chance that it ever passes
    1/alpha is at most alpha (Ville; Ramdas et al., 2023). Averaging over s lets it see a fall after a long good time.
    For a rate that must not rise, watch 1 - x against 1 - baseline.
    """

    def __init__(self, baseline: float, alpha: float = 0.05) -> None:
        assert 0 < baseline < 1, f"a baseline lies between 0 and 1, got {baseline}"
        self.baseline, self.alpha, self.seen, self.alarm, self.e = baseline, alpha, 0, False, 1.0
        self._fallen = baseline * np.linspace(0.02, 0.98, 25)
        self._wealth = np.zeros(25)

    def add(self, x: float) -> None:
        """Take one observation, 0 to 1."""
        assert 0 <= x <= 1, f"an observation lies from 0 to 1, got {x}"
        self.seen += 1
        staked = self._wealth + 1 / (self.seen * (self.seen + 1))  # the rest, 1 / (seen + 1), waits for a later fall
        grown = staked * (x * self._fallen / self.baseline + (1 - x) * (1 - self._fallen) / (1 - self.baseline))
        self._wealth = np.minimum(grown, 1e300)
        self.e = float(self._wealth.mean()) + 1 / (self.seen + 1)
        self.alarm = self.alarm or self.e >= 1 / self.alpha


class TwoArmWatch:
    """Alarms when the canary's rate is below the champion's, both unknown; may be asked after every observation.

    An e-process from blocks of both arms (Turner, Ly and Grünwald, 2024): a bet on rates (a, b) with a < b against the
    blocks' common rate, averaged over a grid of (a, b). While the canary is no worse, P(ever alarm) <= alpha. Which arm the
    next observation falls on may depend on anything but its outcome. Observations wait until both arms have one.
    """

    def __init__(self, alpha: float = 0.05) -> None:
        self.alpha, self.alarm, self.e = alpha, False, 1.0
        self.seen = {"canary": 0, "champion": 0}
        rates = np.linspace(0.025, 0.975, 20)
        canary, champion = np.meshgrid(rates, rates, indexing="ij")
        self._canary, self._champion = canary[canary < champion], champion[canary < champion]
        self._wealth = np.zeros(len(self._canary))  # logarithms
        self._waiting: dict[str, list[int]] = {"canary": [], "champion": []}

    def add(self, x: int, *, canary: bool) -> None:
        """Take one outcome, 0 or 1, of the canary or of the champion."""
        assert x in (0, 1), f"an outcome is 0 or 1, got {x}"
        arm = "canary" if canary else "champion"
        self.seen[arm] += 1
        self._waiting[arm].append(int(x))
        if all(self._waiting.values()):
            self._settle(**self._waiting)
            self._waiting = {"canary": [], "champion": []}

    def _settle(self, canary: list[int], champion: list[int]) -> None:
        common = (len(canary) * self._canary + len(champion) * self._champion) / (len(canary) + len(champion))
        for rate, outcomes in ((self._canary, canary), (self._champion, champion)):
            ones, zeros = sum(outcomes), len(outcomes) - sum(outcomes)
            self._wealth += ones * np.log(rate / common) + zeros * np.log((1 - rate) / (1 - common))
        top = float(self._wealth.max())
        self.e = math.exp(min(700.0, top + math.log(float(np.exp(self._wealth - top).mean()))))
        self.alarm = self.alarm or self.e >= 1 / self.alpha
