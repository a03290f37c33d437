"""How much at once: places for turns with a short queue, and what each key may ask a minute and at a time.

Knows numbers and clocks; does not know what is asked. Everything lives in one event loop.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from agent.keys import Key
from agent.surfaces.http.errors import busy, stopping

PATIENCE_S = 5.0
"""Longest wait for a place."""


class Place:
    """One of the places for turns; free again when everyone who holds it has let go."""

    def __init__(self, turns: "Turns") -> None:
        self._turns, self._holders, self._began = turns, 1, time.monotonic()

    def hold(self) -> None:
        """One holder more."""
        self._holders += 1

    def leave(self) -> None:
        """One holder less."""
        self._holders -= 1
        if self._holders == 0:
            self._turns.free(time.monotonic() - self._began)


class Turns:
    """At most `most` turns run, as many wait up to `patience` seconds, and the rest are told to come again."""

    def __init__(self, most: int, waiting: int | None = None, patience: float = PATIENCE_S) -> None:
        self.most, self.most_waiting, self.patience = most, most if waiting is None else waiting, patience
        self.running = self.waiting = self.peak = self.refused = self.cut_off = 0
        self.closed = False
        self.tasks: set[asyncio.Task[None]] = set()
        """Turns that run, also those whose caller has gone and that are just being logged."""
        self._free = asyncio.Semaphore(most)
        self._took = 1.0  # seconds, a running mean

    async def enter(self) -> Place:
        """A place, at once or soon; raises Refused (429) with the time after which it is worth trying again."""
        if self._free.locked():
            if self.waiting >= self.most_waiting:
                raise self._full()
            self.waiting += 1
            try:
                async with asyncio.timeout(self.patience):
                    await self._free.acquire()
            except TimeoutError:
                raise self._full() from None
            finally:
                self.waiting -= 1
        else:
            await self._free.acquire()
        if self.closed:
            self._free.release()
            raise stopping()
        self.running += 1
        self.peak = max(self.peak, self.running)
        return Place(self)

    def free(self, took: float) -> None:
        """Called by a place that was left."""
        self.running -= 1
        self._took += (took - self._took) / 8
        self._free.release()

    def follow(self, task: "asyncio.Task[None]") -> None:
        """Know of a turn until it has ended."""
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def end(self, seconds: float) -> None:
        """Let no more turns begin and wait for those that run; after so many seconds cancel them until each is logged."""
        self.closed, until = True, time.monotonic() + seconds
        while self.running and time.monotonic() < until:
            await asyncio.sleep(0.02)
        for task in self.tasks:
            self.cut_off += not task.cancelling()
            task.cancel()
        while self.tasks:
            await asyncio.wait(self.tasks)

    def _full(self) -> Exception:
        self.refused += 1
        wait = min(60.0, self._took * (1 + self.waiting / self.most))
        return busy(wait, f"All {self.most} places for answers are taken; ask again after the seconds that Retry-After says.",
                    "overloaded")


class Allowances:
    """What each key has left: a bucket that fills at its rate, and the calls that are open."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}  # key's name -> (calls left, when that was so)
        self._open: Counter[str] = Counter()

    @contextmanager
    def one(self, key: Key) -> Iterator[None]:
        """One call while the block runs; raises Refused (429) if the key has none left."""
        if self._open[key.name] >= key.at_once:
            raise busy(1, f"The key {key.name!r} has {key.at_once} calls open, which is all it may; wait for one to end.")
        now = self._clock()
        left, then = self._buckets.get(key.name, (float(key.rate), now))
        left = min(float(key.rate), left + (now - then) * key.rate / 60)
        if left < 1:
            raise busy((1 - left) * 60 / key.rate, f"The key {key.name!r} may ask {key.rate} times a minute and has; ask again "
                       "after the seconds that Retry-After says.")
        self._buckets[key.name] = left - 1, now
        self._open[key.name] += 1
        try:
            yield
        finally:
            self._open[key.name] -= 1
            if not self._open[key.name]:
                del self._open[key.name]
