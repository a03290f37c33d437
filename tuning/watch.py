"""What people's thumbs say about a bundle that is new in service: keep it, take it back, or end its trial as a canary.

Reads thumbs and judges; `act` alone changes an alias, once for each judgement. A person's thumbs on a session resemble one
another, so a session is one observation.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from agent.errors import BundleError, RetuneError
from agent.registry import Bundle, Registry
from agent.schema import feedback, turns
from agent.store import Store
from tuning import runs
from tuning.drift import lowest
from tuning.runs import Outcome, Run
from tuning.statistics import RateWatch, TwoArmWatch

FEWEST = 20  # rated sessions that say what the bundle before was worth
WATCHED = timedelta(days=14)  # after a promotion; whatever comes later is drift, which a step back does not cure


@dataclass(frozen=True, slots=True)
class Judgement:
    """What is to be done."""

    action: str
    """keep, rollback, promote_canary or stop_canary."""
    words: str
    bundle: str | None = None
    """The champion or canary that was judged."""


def judge(store: Store, domain: str, registry: Registry, alpha: float = 0.01, canary_hours: float = 24.0,
          now: datetime | None = None) -> Judgement:
    """Judge the canary if there is one, else the champion against the one before.

    Whatever the number of looks, a bundle that is liked no less than the other is taken back with a chance of at most
    `alpha`. A shadow is not judged, since nobody saw its answers.
    """
    if (canary := registry.canary()) and not canary.shadow:
        return _trial(store, domain, registry, canary.version, alpha, canary_hours, now or datetime.now(UTC))
    names = registry.aliases()
    if "champion" not in names or "previous" not in names:
        return Judgement("keep", "there is no bundle to go back to")
    return _since(store, domain, registry.get("champion"), registry.get("previous"), alpha)


def act(judgement: Judgement, registry: Registry, store: Store, by: str) -> tuple[Run, Outcome] | None:
    """Do what was judged, by one process only and never twice for a bundle; None if there is nothing to do.

    A person who promotes the bundle again after that has the last word.
    """
    if judgement.action == "keep":
        return None
    window = f"{judgement.action} {judgement.bundle}"
    if not (run := runs.claim(store, job(registry), window, runs.holder(), detail={"why": judgement.words})):
        return None
    try:
        with runs.fenced(store, run):
            _change(judgement, registry, by)
        status = "promoted" if judgement.action == "promote_canary" else "refused"
        outcome = Outcome(status, judgement.words, judgement.bundle)
    except RetuneError as error:
        outcome = Outcome("failed", str(error), judgement.bundle)
    runs.finish(store, run, outcome.status, {"words": outcome.words, "bundle": outcome.bundle})
    return run, outcome


def on_trial(store: Store, share: float, by: str) -> Callable[[Registry, Bundle], None]:
    """What `loop.retrain` does with a better bundle in place of promoting it: it gets that share of the sessions first.

    Not again if its trial was stopped before: the rows that made it may be the same as then.
    """

    def challenge(registry: Registry, bundle: Bundle) -> None:
        if not was_stopped(store, registry, bundle.name):
            registry.set_canary(bundle.version, share, f"better on held-out rows; {share:.0%} of the sessions first", by)

    return challenge


def was_stopped(store: Store, registry: Registry, bundle: str) -> bool:
    """Whether thumbs ended this bundle's trial."""
    return runs.ended(store, job(registry), f"stop_canary {bundle}")


def job(registry: Registry) -> str:
    """The name of this domain's watch among the runs."""
    return f"watch {registry.domain.name}"


def _change(judgement: Judgement, registry: Registry, by: str) -> None:
    assert judgement.bundle, f"{judgement} names no bundle"
    version = registry.get(judgement.bundle).version
    if judgement.action == "rollback":
        registry.rollback(judgement.words, by, check=lambda chosen: _still(registry, version))
    elif judgement.action == "stop_canary":
        registry.set_canary(None, 0.0, judgement.words, by)
    else:
        registry.promote(version, registry.aliases().get("champion"), judgement.words, by)


def _still(registry: Registry, version: int) -> None:
    if (now := registry.aliases().get("champion")) != version:
        raise BundleError(f"The champion is now {now}, not {version} that was judged; nothing was changed.")


def _since(store: Store, domain: str, new: Bundle, old: Bundle, alpha: float) -> Judgement:
    """The champion's sessions in its first days against the rate of the one before."""
    before, later = _thumbs(store, domain, old.name), _thumbs(store, domain, new.name)
    if len(before) < FEWEST:
        return Judgement("keep", f"{old.name} has thumbs on {len(before)} sessions; {FEWEST} are needed to compare", new.name)
    usual = sum(value for _, value in before) / len(before)
    baseline = lowest(usual, len(before), alpha / 2)  # half of alpha for a rate that was lucky
    until = later[0][0] + WATCHED if later else datetime.now(UTC)
    seen = [value for time, value in later if time <= until]
    figures = f"{_share(seen)} of {len(seen)} rated sessions like {new.name}, {usual:.0%} of {len(before)} liked {old.name}"
    if baseline > 0:
        watch = RateWatch(baseline, alpha / 2)
        for value in seen:
            watch.add(value)
        if watch.alarm:
            return Judgement("rollback", f"thumbs fell: {figures}", new.name)
    return Judgement("keep", figures, new.name)


def _trial(store: Store, domain: str, registry: Registry, version: int, alpha: float, hours: float, now: datetime) -> Judgement:
    """Canary and champion side by side since the canary's first turn."""
    canary, champion = registry.get(str(version)), registry.get("champion")
    first = _first(store, domain, canary.name)
    if first is None:
        return Judgement("keep", f"no session has met {canary.name} yet", canary.name)
    arms = [(time, value, True) for time, value in _thumbs(store, domain, canary.name)]
    arms += [(time, value, False) for time, value in _thumbs(store, domain, champion.name) if time >= first]
    watch = TwoArmWatch(alpha)
    for _, value, on_trial in sorted(arms):
        watch.add(int(value == 1), canary=on_trial)  # a session with any thumb down is one that was not liked
    tried, other = [value for _, value, on in arms if on], [value for _, value, on in arms if not on]
    figures = (f"{_share(tried)} of {len(tried)} rated sessions like {canary.name}, {_share(other)} of {len(other)} like "
               f"{champion.name}")
    if watch.alarm:
        return Judgement("stop_canary", f"the trial ended: {figures}", canary.name)
    if now - first >= timedelta(hours=hours):
        return Judgement("promote_canary", f"{hours:g} hours on trial without a fall: {figures}", canary.name)
    return Judgement("keep", f"on trial since {first:%Y-%m-%d %H:%M} UTC: {figures}", canary.name)


def _thumbs(store: Store, domain: str, bundle: str) -> list[tuple[datetime, float]]:
    """(time of its first thumb, share of thumbs up) of each session that this bundle answered, in that order."""
    which = (turns.c.domain == domain) & (turns.c.bundle == bundle) & feedback.c.kind.in_(("up", "down"))
    query = (sa.select(turns.c.session, feedback.c.kind, feedback.c.created)
             .select_from(feedback.join(turns, feedback.c.turn == turns.c.id)).where(which)
             .order_by(feedback.c.created, feedback.c.turn, feedback.c.author))
    sessions: dict[str, list[Any]] = {}
    with store.reading() as at:
        for session, kind, created in at.execute(query):
            sessions.setdefault(session, [datetime.fromisoformat(created)]).append(float(kind == "up"))
    return [(time, sum(values) / len(values)) for time, *values in sessions.values()]


def _first(store: Store, domain: str, bundle: str) -> datetime | None:
    with store.reading() as at:
        mine = (turns.c.domain == domain) & (turns.c.bundle == bundle)
        found = at.execute(sa.select(sa.func.min(turns.c.created)).where(mine)).scalar()
    return datetime.fromisoformat(found) if found else None


def _share(values: Sequence[float]) -> str:
    return f"{sum(values) / len(values):.0%}" if values else "none"
