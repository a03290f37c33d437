"""What makes a retraining due: asked for, the clock, something left unfinished, enough new rows, or drift.

Each reason is a window, in which the job runs once, and words for a person. Does not run anything; how rows are gathered is
passed in.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

import sqlalchemy as sa

from agent.registry import Bundle
from agent.schema import authors, feedback, reviews, turns
from agent.store import Store
from tuning.drift import Finding
from tuning.plan import Plan
from tuning.rows import Row
from tuning.runs import Run


class Gathered(Protocol):
    """What `tuning.dataset.build` makes, as far as it matters here: rows that are ready to train on."""

    @property
    def router(self) -> Sequence[Row]:
        """For the router."""

    @property
    def generator(self) -> Sequence[Row]:
        """For the generator."""

    @property
    def hash(self) -> str:
        """Changes with the rows."""


Gather = Callable[[], Gathered]


@dataclass(frozen=True, slots=True)
class Due:
    """One reason to retrain."""

    window: str
    """The job runs once in it."""
    words: str
    clock: bool = False
    """Because of the time alone: without anything new there is nothing to do."""


def due(plan: Plan, now: datetime, champion: Bundle, last: Run | None, left: Run | None, gather: Gather,
        drifted: Callable[[], Sequence[Finding]], asked: str = "") -> Iterator[Due]:
    """The reasons, one after the other; each is looked for only when the one before could not be claimed.

    last: the run that ended last; left: one that nobody holds any more. Of missed cron times the newest alone counts.
    """
    if asked:
        yield Due(f"asked {now.astimezone(UTC):%Y-%m-%d %H:%M:%S}", asked)
    if window := plan.before(now):
        yield Due(window, f"it is due by the clock ({plan.cron}, {plan.timezone})", clock=True)
    if left:
        yield Due(left.window, left.detail.get("why", "it was left unfinished"))
    if plan.rows and (count := new_rows(gather(), champion, last)) >= plan.rows:
        yield Due(f"rows after {last.id if last else champion.name}", f"{count} new reviewed rows, {plan.rows} are enough")
    if plan.drift and (alarms := [finding for finding in drifted() if finding.alarm]):
        yield Due(f"drift of {champion.name}", "; ".join(finding.words for finding in alarms))


def new_rows(gathered: Gathered, champion: Bundle, last: Run | None) -> int:
    """How many rows are ready that no run and no champion has seen.

    Counted against the rows that the last run found, because an old row is new when it was reviewed since. Without such a
    run since the champion was made: the rows whose feedback is younger than the champion.
    """
    rows, made = [*gathered.router, *gathered.generator], _time(champion.manifest["made"])
    if last and isinstance(seen := last.detail.get("rows"), int) and _time(last.updated) > made:
        return max(0, len(rows) - seen)
    return sum(1 for row in rows if row.created and _time(row.created) > made)


def lessons(store: Store, domain: str) -> tuple[int, str]:
    """(how much feedback there is on the domain's turns, a text that changes with whatever could make rows ready).

    Both cost next to nothing: rows are gathered only if there is enough feedback, and only if something changed.
    """
    with store.reading() as at:
        said = sa.select(sa.func.count()).select_from(feedback.join(turns, feedback.c.turn == turns.c.id))
        count = at.execute(said.where(turns.c.domain == domain)).scalar_one()
        stamp: list[Any] = [count]
        for table in (feedback, reviews, authors):
            stamp += at.execute(sa.select(sa.func.count(), sa.func.max(table.c.created)).select_from(table)).one()
    return count, repr(stamp)


def _time(text: str) -> datetime:
    read = datetime.fromisoformat(text)
    return read if read.tzinfo else read.replace(tzinfo=UTC)
