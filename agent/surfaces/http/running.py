"""A turn that runs in a task of its own, so that it ends in order whatever becomes of the call that wanted it.

Knows tasks and events; does not know HTTP. A caller who goes away cancels the turn once, and the turn logs itself.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

from agent.surfaces.http.errors import stopping
from agent.surfaces.http.limits import Place, Turns
from agent.types import Delta, Done, Event, Routed, Turn


class Running:
    """The events of a turn that has begun: `head` first, then `deltas`, then `done`."""

    def __init__(self, events: AsyncIterator[Event], turns: Turns, place: Place | None) -> None:
        self._told: asyncio.Queue[Event | BaseException | None] = asyncio.Queue()
        self._held: list[Event] = []
        self.done: Done | None = None
        self.task = asyncio.create_task(self._run(events))
        turns.follow(self.task)
        if place:
            place.hold()
            self.task.add_done_callback(lambda task: place.leave())

    async def _run(self, events: AsyncIterator[Event]) -> None:
        try:
            async with aclosing(events) as told:  # type: ignore[type-var]
                async for event in told:
                    self._told.put_nowait(event)
            self._told.put_nowait(None)
        except BaseException as error:
            self._told.put_nowait(error)
            if not isinstance(error, Exception):
                raise

    async def head(self) -> Turn:
        """The turn as soon as its id and session are known; raises what it raised before that."""
        while True:
            event = await self._next()
            assert event is not None, "a turn ends with Done or raises"
            self._held.append(event)
            if isinstance(event, Routed | Done):
                return event.turn

    async def deltas(self, every: float) -> AsyncIterator[str]:
        """The pieces of the reply; "" where nothing came for `every` seconds. Raises what the turn raised."""
        while True:
            try:
                event = self._held.pop(0) if self._held else await self._next(every)
            except TimeoutError:
                yield ""
                continue
            if event is None:
                return
            if isinstance(event, Delta) and event.text:
                yield event.text
            elif isinstance(event, Done):
                self.done = event

    async def whole(self) -> Done:
        """The end of the turn; raises what it raised."""
        if self.done is None:
            async for _ in self.deltas(3600):
                pass
        assert self.done is not None, "a turn ends with Done or raises"
        return self.done

    def stop(self) -> None:
        """Nobody listens any more: the turn is cancelled, if it still runs, and logs itself."""
        self.task.cancel()

    async def _next(self, seconds: float | None = None) -> Event | None:
        async with asyncio.timeout(seconds):
            event = await self._told.get()
        if isinstance(event, asyncio.CancelledError):  # whoever waits was not cancelled, so it is the server that stops
            raise stopping()
        if isinstance(event, BaseException):
            raise event
        return event
