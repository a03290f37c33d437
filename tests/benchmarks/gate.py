"""The gate on itself: how often it promotes what is no better, what is better, and what is poisoned.

Run: python tests/benchmarks/gate.py [runs] [settings...]. Writes results/gate.json beside this file. Every run draws a fresh
evaluation: router rows of 20 intents in clusters of one to three, an out-of-scope part, a safety set and a frozen general
set, each row with its length, language and source.
"""

import json
import sys
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from tuning import gate, statistics

RESULTS = Path(__file__).parent / "results"
INTENTS = tuple(f"intent{i:02}" for i in range(20))
TARGETS = frozenset({"router"})


def evaluation(rng: np.random.Generator, *, pairs: int = 620, discordance: float = 0.2, gain: float = 0.0, oos: int = 200,
               oos_discordance: float = 0.05, safety: int = 60, general: int = 100, together: float = 0.0) -> list[gate.Pair]:
    """Pairs of a champion that is right in 80 % of rows and a challenger with a true difference of `gain` on the router.

    together: chance that a row of a cluster does what the first row of its cluster did.
    """
    rows = _part(rng, "router", pairs, discordance, gain, together)
    rows += _part(rng, "oos", oos, oos_discordance, 0.0, together)
    rows += [gate.Pair(f"s{i}", f"s{i}", "safety", 1, 1, {}) for i in range(safety)]
    rows += _part(rng, "general", general, 0.02, 0.0, 0.0)
    return rows


def _part(rng: np.random.Generator, part: str, count: int, discordance: float, gain: float, together: float) -> list[gate.Pair]:
    if not count:
        return []
    both = (1 - discordance) * 0.875
    kinds = rng.choice(4, size=count, p=[(discordance + gain) / 2, (discordance - gain) / 2, both, 1 - discordance - both])
    starts = np.cumsum(rng.integers(1, 4, size=count))  # clusters of one to three rows
    cluster = np.searchsorted(starts, np.arange(count), side="right")
    first = np.searchsorted(cluster, cluster)
    kinds = np.where(rng.random(count) < together, kinds[first], kinds)
    intents = np.array(INTENTS)[(cluster if together else np.arange(count)) % len(INTENTS)]
    lengths = rng.choice(["short", "middle", "long"], size=count)
    sources = rng.choice(["seed", "feedback"], size=count, p=[.7, .3])
    champion, challenger = np.isin(kinds, (1, 2)).astype(int), np.isin(kinds, (0, 2)).astype(int)
    return [gate.Pair(f"{part}{i}", f"{part}{cluster[i]}", part, int(champion[i]), int(challenger[i]),
                      {"length": str(lengths[i]), "language": "en", "source": str(sources[i])}
                      | ({"intent": str(intents[i])} if part == "router" else {})) for i in range(count)]


def poison(rng: np.random.Generator, pairs: list[gate.Pair], intent: str) -> list[gate.Pair]:
    """15 to 20 rows of one intent, of about 31, that both get right, now wrong."""
    able = [i for i, pair in enumerate(pairs) if pair.slices.get("intent") == intent and pair.champion == pair.challenger == 1]
    chosen = set(rng.permutation(able)[:int(rng.integers(15, 21))].tolist())
    return [replace(pair, challenger=0) if i in chosen else pair for i, pair in enumerate(pairs)]


def measure(runs: int, rule: gate.Rule, seed: int, spoil: str = "", **shape: Any) -> dict[str, Any]:
    """Shares of promote, refuse and abstain over fresh evaluations, each with its 95 % interval (Wilson)."""
    rng, decisions, named = np.random.default_rng(seed), Counter(), 0
    for run in range(runs):
        pairs, where = evaluation(rng, **shape), f"router intent={INTENTS[run % len(INTENTS)]}"
        if spoil == "intent":
            pairs = poison(rng, pairs, INTENTS[run % len(INTENTS)])
        elif spoil == "safety":
            spot = next(i for i, pair in enumerate(pairs) if pair.part == "safety")
            pairs[spot], where = replace(pairs[spot], challenger=0), "safety"
        verdict = gate.decide(pairs, replace(rule, seed=rule.seed + run), TARGETS)
        decisions[verdict.decision] += 1
        named += verdict.decision == "refuse" and verdict.slice == where and where in verdict.why
    table: dict[str, Any] = shape | {"runs": runs, "seed": seed, "spoiled": spoil or None}
    for name, count in (*((kind, decisions[kind]) for kind in ("promote", "refuse", "abstain")), ("refused_and_named", named)):
        if name != "refused_and_named" or spoil:
            low, high = statistics.wilson(count, runs)
            table[name] = {"share": count / runs, "low": round(low, 4), "high": round(high, 4)}
    return table


SETTINGS: dict[str, tuple[str, dict[str, Any]]] = {
    **{f"equal: {pairs} pairs, discordance {discordance}": ("", {"pairs": pairs, "discordance": discordance})
       for pairs, discordance in [(60, .2), (150, .1), (300, .1), (300, .3), (620, .05), (620, .2)]},
    **{f"equal: {pairs} pairs in clusters that go together": ("", {"pairs": pairs, "together": .8}) for pairs in (300, 620)},
    **{f"better by {100 * gain:.0f} points: {pairs} pairs": ("", {"pairs": pairs, "gain": gain})
       for pairs, gain in [(300, .05), (620, .05), (1200, .05), (620, .08)]},
    **{f"one intent poisoned, else better by {100 * gain:.0f} points": ("intent", {"gain": gain}) for gain in (.0, .05, .1)},
    "one safety row lost, else better by 10 points": ("safety", {"gain": .1}),
}


def main(runs: int, wanted: list[str]) -> None:
    """Measure the settings whose names begin with a wanted word (none: all), and keep the others as they were."""
    file = RESULTS / "gate.json"
    table = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    rule = gate.Rule(resamples=2000)  # a fifth of the default, so that a setting takes a minute
    table["rule"] = asdict(rule)
    for number, (name, (spoil, shape)) in enumerate(SETTINGS.items()):
        if not wanted or any(name.startswith(word) for word in wanted):
            table[name] = measure(runs, rule, 1000 + number, spoil, **shape)
            print(name, json.dumps(table[name]), flush=True)
    ordered = {name: table[name] for name in ("rule", *SETTINGS) if name in table}
    RESULTS.mkdir(exist_ok=True)
    file.write_text(json.dumps(ordered, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000, sys.argv[2:])
