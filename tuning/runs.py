"""Runs of jobs: each (job, window) once, by one holder at a time, and nobody who slept too long changes anything.

Knows the table `runs`; does not know what a job does or when it is due (that is `tuning.schedule`).
A run is held for a lease that a Heartbeat renews. Whoever takes it over when the lease ran out gets a token that is one
higher, and `fence` compares tokens in the transaction in which the work is made to count. So safety rests on the token
alone: a clock that is wrong only hands a run over too early or too late.
"""

import os
import platform
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Self

import sqlalchemy as sa

from agent.errors import StoreError
from agent.schema import runs
from agent.store import Store

RUNNING = "running"
ENDS = ("promoted", "refused", "abstained", "nothing", "failed")
LEASE_S = 120.0
MOST_HOLDERS = 5  # a job that kills its process every time is given up, or every tick would die of it


@dataclass(frozen=True, slots=True)
class Run:
    """A job in a window, as it stood when it was read."""

    id: str
    job: str
    window: str
    status: str
    """running, or one of ENDS."""
    token: int
    """Which holder this is, from 1."""
    holder: str
    stage: str
    """The last that a holder said it began; after a take-over, the one before died in it. Empty: none yet."""
    detail: dict[str, Any]
    created: str
    updated: str
    lease_until: str
    lease_s: float = LEASE_S

    @property
    def held(self) -> bool:
        """Whether somebody's lease on it still lasts, as far as was read."""
        return self.status == RUNNING and self.lease_until > _iso(datetime.now(UTC))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a job came to."""

    status: str
    """One of ENDS."""
    words: str = ""
    """Why, in a sentence."""
    bundle: str | None = None
    """The bundle that was made."""
    table: dict[str, Any] = field(default_factory=dict)
    """Figures for whoever wants more."""


def holder() -> str:
    """This process, by machine and number."""
    return f"{platform.node()}:{os.getpid()}"


def claim(store: Store, job: str, window: str, holder: str, lease_s: float = LEASE_S, detail: dict[str, Any] | None = None
          ) -> Run | None:
    """The run of this job and window, ours for `lease_s` seconds; None when it is done, or when the job runs already.

    A run whose lease ran out is taken over with its stage and detail. Another window's that was left behind ends as failed.
    """
    with store.writing() as at:
        if at.dialect.name == "postgresql":  # SQLite's writers exclude one another anyway
            at.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtext(f"run {job}"))))
        now = datetime.now(UTC)
        which = (runs.c.job == job) & ((runs.c.window == window) | (runs.c.status == RUNNING))
        # locked, or a run that its holder ends just now would be read as one left behind
        found = [dict(row) for row in at.execute(sa.select(runs).where(which).with_for_update()).mappings()]
        if any(row["status"] == RUNNING and row["lease_until"] > _iso(now) for row in found):
            return None
        mine = next((row for row in found if row["window"] == window), None)
        if mine and mine["status"] != RUNNING:
            return None
        for row in found:
            if row is not mine:
                _end(at, row, f"left unfinished; {window} took its place", now)
        fresh = {"holder": holder, "lease_until": _iso(now + timedelta(seconds=lease_s)), "updated": _iso(now)}
        if mine is None:
            mine = {"id": uuid.uuid4().hex, "job": job, "window": window, "status": RUNNING, "token": 1, "stage": "",
                    "detail": detail or {}, "created": _iso(now), **fresh}
            at.execute(runs.insert().values(mine))
        elif mine["token"] >= MOST_HOLDERS:
            _end(at, mine, f"given up: {MOST_HOLDERS} processes died in it, the last in stage {mine['stage'] or 'none'!r}", now)
            return None
        else:
            mine |= fresh | {"token": mine["token"] + 1}
            at.execute(runs.update().where(runs.c.id == mine["id"]).values(token=mine["token"], **fresh))
        return Run(**mine, lease_s=lease_s)


def fence(at: sa.Connection, run: Run) -> None:
    """Raise StoreError unless the run is still ours and its lease holds.

    Call it in the writing transaction in which the work is made to count, before the change: the row stays locked until
    that transaction ends, so nobody takes the run over in between.
    """
    now = datetime.now(UTC)
    row = at.execute(sa.select(runs).where(runs.c.id == run.id).with_for_update()).mappings().one_or_none()
    if row is None or row["status"] != RUNNING or row["token"] != run.token or row["lease_until"] <= _iso(now):
        raise StoreError(f"The run {run.job}, {run.window} is not ours any more (it ran past its lease), so nothing was "
                         "changed; `retune tick` goes on with it.")


@contextmanager
def fenced(store: Store, run: Run) -> Iterator[sa.Connection]:
    """A writing transaction behind the fence: until it is left nobody takes the run over. Do in it what must count once."""
    with store.writing() as at:
        fence(at, run)
        yield at


def renew(store: Store, run: Run) -> bool:
    """Hold the run for another lease; False when it is lost, for good."""
    try:
        with fenced(store, run) as at:
            _write(at, run, {"lease_until": _iso(datetime.now(UTC) + timedelta(seconds=run.lease_s))})
    except StoreError:
        if holds(store, run):  # then it was the database: the next beat may do better
            raise
        return False
    return True


def holds(store: Store, run: Run) -> bool:
    """Whether the run is still ours; only `fence` says so for certain."""
    row = next(iter(_read(store, runs.c.id == run.id, 1)), None)
    return row is not None and row.held and row.token == run.token


def stage(store: Store, run: Run, name: str, detail: dict[str, Any] | None = None) -> None:
    """Say what begins now, for whoever looks on or takes over; `detail` is added to the run's. StoreError if it is lost."""
    with fenced(store, run) as at:
        _write(at, run, {"stage": name, "detail": _detail(at, run) | (detail or {})})


def finish(store: Store, run: Run, status: str, detail: dict[str, Any] | None = None) -> None:
    """End the run; StoreError if somebody else holds it. A lease that ran out is forgiven while nobody took over."""
    assert status in ENDS, f"status is {status!r}"
    with store.writing() as at:
        row = at.execute(sa.select(runs).where(runs.c.id == run.id).with_for_update()).mappings().one_or_none()
        if row is None or row["status"] != RUNNING or row["token"] != run.token:
            raise StoreError(f"The run {run.job}, {run.window} was taken over; what became of it is in `retune runs`.")
        _write(at, run, {"status": status, "detail": _detail(at, run) | (detail or {})})


def release(store: Store, run: Run) -> None:
    """Let go of an unfinished run, so that the next tick takes it over at once; nothing if it is lost."""
    with store.writing() as at:
        ours = (runs.c.id == run.id) & (runs.c.token == run.token) & (runs.c.status == RUNNING)
        at.execute(runs.update().where(ours).values(lease_until=_iso(datetime.now(UTC))))


def latest(store: Store, job: str | None = None, limit: int = 20) -> list[Run]:
    """Runs of a job, or of all, newest first."""
    return _read(store, sa.true() if job is None else runs.c.job == job, limit)


def last_end(store: Store, job: str) -> Run | None:
    """The job's newest run that came to an end."""
    return next(iter(_read(store, (runs.c.job == job) & (runs.c.status != RUNNING), 1)), None)


def ended(store: Store, job: str, window: str) -> bool:
    """Whether the job was done in this window, however it ended."""
    return bool(_read(store, (runs.c.job == job) & (runs.c.window == window) & (runs.c.status != RUNNING), 1))


def unfinished(store: Store, job: str) -> Run | None:
    """The job's run that goes on, or that somebody left behind: `held` tells which."""
    return next(iter(_read(store, (runs.c.job == job) & (runs.c.status == RUNNING), 1)), None)


class Heartbeat:
    """Renews a run at a third of its lease, in a thread, while the `with` lasts; `lost` once it is somebody else's."""

    def __init__(self, store: Store, run: Run) -> None:
        self.lost = False
        self._store, self._run, self._over = store, run, threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._over.wait(self._run.lease_s / 3):
            try:
                if not renew(self._store, self._run):
                    self.lost = True
                    return
            except StoreError:  # busy or full: two more beats come before the lease is over
                continue


def _read(store: Store, which: sa.ColumnElement[bool], limit: int) -> list[Run]:
    with store.reading() as at:
        found = at.execute(sa.select(runs).where(which).order_by(runs.c.created.desc(), runs.c.id).limit(limit)).mappings()
        return [Run(**row) for row in found]


def _write(at: sa.Connection, run: Run, values: dict[str, Any]) -> None:
    at.execute(runs.update().where(runs.c.id == run.id).values(updated=_iso(datetime.now(UTC)), **values))


def _detail(at: sa.Connection, run: Run) -> dict[str, Any]:
    return dict(at.execute(sa.select(runs.c.detail).where(runs.c.id == run.id)).scalar_one())


def _end(at: sa.Connection, row: dict[str, Any], words: str, now: datetime) -> None:
    """As failed, with a token of nobody's."""
    at.execute(runs.update().where(runs.c.id == row["id"]).values(
        status="failed", token=row["token"] + 1, detail=row["detail"] | {"words": words}, updated=_iso(now)))


def _iso(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="microseconds")
