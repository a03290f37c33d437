"""The gate on many drawn evaluations: what is equal, better or poisoned.

`tests/benchmarks/gate.py` measures the shares with a thousand runs each; here is what can be seen in seconds.
"""

import math
from dataclasses import replace

import numpy as np
import pytest

from tuning.gate import Pair, Rule, Verdict, decide

ROUTER = frozenset({"router"})
INTENTS = tuple(f"intent{i:02}" for i in range(20))
SAFE = [Pair(f"safety{i}", f"safety{i}", "safety", 1, 1, {}) for i in range(40)]


def drawn(rng: np.random.Generator, part: str, count: int, discordance: float, gain: float) -> list[Pair]:
    """A fresh evaluation: so many rows of 20 intents, three lengths."""
    chances = [(discordance + gain) / 2, (discordance - gain) / 2, 0.7, 0.3 - discordance]
    picks = rng.choice(4, size=count, p=chances)
    return [Pair(f"{part}{i}", f"{part}{i}", part, int(pick in (1, 2)), int(pick in (0, 2)),
                 {"intent": INTENTS[i % 20] if part == "router" else "none", "length": "slm"[rng.integers(3)]})
            for i, pick in enumerate(picks.tolist())]


def judged(runs: int, seed: int, count: int, discordance: float, gain: float, poisoned: bool = False) -> list[Verdict]:
    """Verdicts on fresh evaluations; `poisoned`: 15 to 20 rows of one intent that both got right are lost."""
    rng, found = np.random.default_rng(seed), []
    for run in range(runs):
        pairs = drawn(rng, "router", count, discordance, gain) + drawn(rng, "oos", 150, 0.06, 0.0) + SAFE
        if poisoned:
            able = [i for i, pair in enumerate(pairs) if pair.slices.get("intent") == INTENTS[run % 20]
                    and pair.champion == pair.challenger == 1]
            for i in rng.permutation(able)[:int(rng.integers(15, 21))]:
                pairs[i] = replace(pairs[i], challenger=0)
        found.append(decide(pairs, Rule(resamples=500, seed=run), ROUTER))
    return found


@pytest.mark.parametrize(("count", "discordance", "runs"), [(60, 0.2, 200), (300, 0.1, 120), (620, 0.2, 80)])
def test_an_equal_challenger_is_seldom_promoted(count: int, discordance: float, runs: int) -> None:
    promoted = sum(verdict.decision == "promote" for verdict in judged(runs, 41, count, discordance, 0.0))
    assert promoted <= runs * 0.05 + 2 * math.sqrt(runs * 0.05 * 0.95)


def test_five_points_are_found_with_620_pairs() -> None:
    promoted = sum(verdict.decision == "promote" for verdict in judged(60, 43, 620, 0.2, 0.05))
    assert promoted >= 46  # 0.86 in the benchmark


def test_a_poisoned_challenger_is_refused_for_its_intent() -> None:
    named = [verdict.decision == "refuse" and verdict.slice == f"router intent={INTENTS[run % 20]}"
             for run, verdict in enumerate(judged(60, 47, 620, 0.2, 0.05, poisoned=True))]
    assert sum(named) >= 55  # 0.98 in the benchmark
