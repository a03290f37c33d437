"""The tick: what is due for a domain is done once, whoever else ticks; and the clock that ticks by itself.

Knows neither training nor models: the job and the way rows are gathered are passed in.
"""

import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache, partial
from typing import Any

from agent.domain import Domain
from agent.errors import BundleError, RetuneError, StoreError
from agent.registry import Bundle, Registry
from agent.settings import Settings
from agent.store import Store
from tuning import runs, triggers, watch
from tuning.drift import drift
from tuning.plan import Plan
from tuning.runs import Heartbeat, Outcome, Run
from tuning.triggers import Gather

EVERY_S = 60.0  # between two looks at rows, drift and thumbs
BY = "retune tick"
log = logging.getLogger(__name__)
Job = Callable[[Run], Outcome]


@dataclass(frozen=True, slots=True)
class Result:
    """One thing that a tick did."""

    job: str
    window: str
    why: str
    """What made it due."""
    outcome: Outcome

    def table(self) -> dict[str, Any]:
        """As plain data."""
        return {"job": self.job, "window": self.window, "why": self.why, "status": self.outcome.status,
                "bundle": self.outcome.bundle, "words": self.outcome.words}


def tick(domain: Domain, store: Store, settings: Settings, now: datetime, job: Job, plan: Plan, gather: Gather, *,
         asked: str = "", seen: dict[str, str] | None = None, lease_s: float = runs.LEASE_S) -> list[Result]:
    """Act on thumbs, then run `job` if there is a reason to retrain and no canary is on trial; ticking again does nothing more.

    asked: retrain now, for this reason. seen: memory of a clock, so that rows are gathered only after something changed.
    A job that raises ends as failed and is not tried again in its window; one whose process dies is taken up by a later tick.
    """
    registry, name = Registry(domain, settings.home), f"retrain {domain.name}"
    results = _watch(domain, store, registry, plan, now)
    left = runs.unfinished(store, name)
    on_trial = (canary := registry.canary()) and not canary.shadow
    if (left and left.held) or (on_trial and not asked):  # one challenger after the other
        return results
    champion, last, gathered = registry.get("champion"), runs.last_end(store, name), cache(gather)
    looked = _worth_a_look(plan, domain, store, seen)
    for due in triggers.due(looked, now, champion, last, left, gathered, lambda: drift(store, domain.name, champion), asked):
        detail = {"why": due.words, "champion": champion.name, "recipe": plan.recipe}
        if run := runs.claim(store, name, due.window, runs.holder(), lease_s, detail):
            idle = partial(_same, last, champion, plan, gathered) if due.clock else str
            return [*results, Result(name, due.window, due.words, _run(store, run, job, gathered, idle))]
    return results


def keep_time(plans: Iterable[Plan], ticking: Callable[[datetime], list[Result]], stop: threading.Event,
              every_s: float = EVERY_S, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> Iterator[list[Result]]:
    """Tick at every cron time and every `every_s` seconds; yields what each tick did, until `stop` is set."""
    plans = list(plans)
    while not stop.is_set():
        yield ticking(clock())
        now = clock()
        waits = [(time - now).total_seconds() for plan in plans if (time := plan.after(now))]
        stop.wait(max(0.0, min([every_s, *waits])))


def step_back(nice: int) -> None:
    """Let other programs go first, at least so far; there is no way back for this process. Nothing on Windows."""
    if hasattr(os, "nice") and (more := nice - os.nice(0)) > 0:
        os.nice(more)


def _watch(domain: Domain, store: Store, registry: Registry, plan: Plan, now: datetime) -> list[Result]:
    try:
        judgement = watch.judge(store, domain.name, registry, canary_hours=plan.canary_hours, now=now)
    except BundleError as error:  # the bundle before is damaged: that must not keep the next one from being made
        log.warning("%s", error)
        return []
    done = watch.act(judgement, registry, store, BY)
    return [Result(done[0].job, done[0].window, judgement.words, done[1])] if done else []


def _worth_a_look(plan: Plan, domain: Domain, store: Store, seen: dict[str, str] | None) -> Plan:
    """The plan without the rows where they cannot be enough, or are as they were at the last look."""
    count, stamp = triggers.lessons(store, domain.name)
    old = seen.get(domain.name) if seen is not None else None
    if seen is not None:
        seen[domain.name] = stamp
    return replace(plan, rows=0) if count < plan.rows or stamp == old else plan


def _run(store: Store, run: Run, job: Job, gathered: Gather, idle: Callable[[], str]) -> Outcome:
    """Run the job under a heartbeat and write down how it ended."""
    found: dict[str, Any] = {}
    with Heartbeat(store, run):
        try:
            rows = gathered()
            found = {"rows": len(rows.router) + len(rows.generator), "data": rows.hash}
            outcome = Outcome("nothing", words) if (words := idle()) else job(run)
        except (RetuneError, OSError) as error:
            outcome = Outcome("failed", str(error))
        except Exception as error:  # one domain's mishap must not stop the clock of the others
            log.exception("%s, %s", run.job, run.window)
            outcome = Outcome("failed", f"{type(error).__name__}: {error}")
        except BaseException:  # told to stop: whoever ticks next goes on from here
            runs.release(store, run)
            raise
    try:
        runs.finish(store, run, outcome.status, {"words": outcome.words, "bundle": outcome.bundle, **found})
    except StoreError as error:
        return Outcome("failed", str(error), outcome.bundle)
    return outcome


def _same(last: Run | None, champion: Bundle, plan: Plan, gathered: Gather) -> str:
    """Why there is nothing to do: the last run learned from the very same and did not promote; else an empty string."""
    if not last or last.status not in ("refused", "abstained", "nothing"):
        return ""
    now = {"champion": champion.name, "recipe": plan.recipe, "data": gathered().hash}
    if any(last.detail.get(name) != value for name, value in now.items()):
        return ""
    return f"nothing is new since the run of {last.created[:16]}, which ended as {last.status}"
