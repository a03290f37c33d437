"""Whether the talk has changed since the champion came: surer or less sure, out of scope more often, disliked more often.

Reads turns and thumbs; does not know what is done about it. The champion's first turns say what is usual, because another
bundle is sure of other things; later ones are watched one after the other by a test that may be asked at any time.
A person's turns of a day resemble one another, so they count as one observation, the mean of them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from agent.registry import Bundle
from agent.schema import feedback, turns
from agent.store import Store
from tuning.statistics import RateWatch

SETTLE = 100  # sessions (by day) that say what is usual
SIGNS = {
    "confidence": ("sureness of the router fell", "the router was {} sure"),
    "in_scope": ("questions out of scope became more", "{} of the questions were in scope"),
    "not_disliked": ("down-votes became more", "{} of the answers got no down-vote"),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One sign, now against before; all are shares of 1 that are good when high."""

    name: str
    """confidence, in_scope or not_disliked."""
    before: float | None
    """Mean of the champion's first sessions; None: there are too few yet."""
    now: float | None
    """Mean since then, None without any."""
    n: int
    """Sessions watched."""
    alarm: bool
    words: str


def drift(store: Store, domain: str, champion: Bundle, alpha: float = 0.01) -> list[Finding]:
    """A finding for each sign; on traffic that stays as it is, the chance that any ever alarms is at most `alpha`.

    domain: its name. The chance holds for sessions that are independent of one another.
    """
    said = _turns(store, domain, champion.name)
    values = {
        "confidence": [(unit, row["confidence"]) for unit, row in said if row["intent"] and row["confidence"] is not None],
        "in_scope": [(unit, float(not _outside(row))) for unit, row in said if row["confidence"] is not None],
        "not_disliked": [(unit, float(not row["downs"])) for unit, row in said],
    }
    return [_finding(name, _means(pairs), alpha / len(SIGNS)) for name, pairs in values.items()]


def lowest(mean: float, n: int, alpha: float) -> float:
    """The lowest mean that n independent numbers from 0 to 1 with this mean leave possible, but for a chance of `alpha`.

    Chernoff's bound, which holds for shares as for zeros and ones (Hoeffding, 1963, theorem 1).
    """
    low, high = 0.0, mean
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if n * _divergence(mean, middle) > math.log(1 / alpha) else (low, middle)
    return low


def _finding(name: str, means: Sequence[float], alpha: float) -> Finding:
    fell, told = SIGNS[name]
    usual, later = means[:SETTLE], means[SETTLE:]
    if len(usual) < SETTLE:
        return Finding(name, None, None, 0, False, f"{name}: {SETTLE} sessions say what is usual, {len(usual)} are there")
    before = sum(usual) / SETTLE
    now = sum(later) / len(later) if later else None
    # half of alpha for a baseline that was lucky, half for the watch against its lowest value
    baseline = lowest(before, SETTLE, alpha / 2)
    if baseline <= 0:
        return Finding(name, before, now, len(later), False, f"{name}: it was zero and cannot fall")
    watch = RateWatch(baseline, alpha / 2)
    for mean in later:
        watch.add(mean)
    since = "" if now is None else f", {now:.0%} in the {len(later)} sessions since"
    figures = f"{told.format(f'{before:.0%}')} before{since}"
    return Finding(name, before, now, len(later), watch.alarm, f"{fell}: {figures}" if watch.alarm else f"{name}: {figures}")


def _turns(store: Store, domain: str, bundle: str) -> list[tuple[tuple[str, str], dict[str, Any]]]:
    """((session, day), row) of the turns that this bundle answered, oldest first, without those that failed."""
    downs = (sa.select(sa.func.count()).select_from(feedback)
             .where((feedback.c.turn == turns.c.id) & (feedback.c.kind == "down")).scalar_subquery().label("downs"))
    which = (turns.c.domain == domain) & (turns.c.bundle == bundle) & turns.c.error.is_(None)
    names = ("session", "created", "intent", "state", "confidence")
    query = sa.select(*(turns.c[name] for name in names), downs).where(which).order_by(turns.c.created, turns.c.id)
    with store.reading() as at:
        return [((row["session"], row["created"][:10]), dict(row)) for row in at.execute(query).mappings()]


def _outside(row: dict[str, Any]) -> bool:
    return row["state"] == "refused" and not row["intent"]


def _means(pairs: Sequence[tuple[Any, float]]) -> list[float]:
    """The mean of each unit, in the order of their first turns."""
    units: dict[Any, list[float]] = {}
    for unit, value in pairs:
        units.setdefault(unit, []).append(value)
    return [sum(values) / len(values) for values in units.values()]


def _divergence(p: float, q: float) -> float:
    """Kullback-Leibler divergence of Bernoulli(p) from Bernoulli(q), in nats."""
    inside = p * math.log(p / q) if p and q else 0.0 if not p else math.inf
    outside = (1 - p) * math.log((1 - p) / (1 - q)) if p < 1 else 0.0
    return inside + outside
