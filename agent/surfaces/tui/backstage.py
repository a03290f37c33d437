"""Where agents load and turns run: threads of their own, so that no key waits for a model or a disk.

Knows how to bring an agent's events over to the screen's event loop; knows no widget.
"""

import asyncio
import os
import sys
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agent.agent import Agent
    from agent.types import Event

_END = object()
NICE = 5
"""Of turns and loading: an answer steps back behind the screen that shows it, and less so than a retraining."""


class Backstage:
    """One event loop for all turns in a thread, one more thread that loads; `close` waits until every turn is logged."""

    def __init__(self, load: "Callable[[str], Agent]") -> None:
        self._load = load
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="turns", daemon=True)
        self._loader = ThreadPoolExecutor(1, "load", step_back)
        self._agents: dict[str, Future[Agent]] = {}
        self._turns: set[Future[None]] = set()
        self._lock, self._closed = threading.Lock(), False
        self._thread.start()

    async def agent(self, name: str) -> "Agent":
        """Loaded once, in the order in which they were first asked for; raises what loading raised, and tries again later."""
        with self._lock:
            if name not in self._agents or (self._agents[name].done() and self._agents[name].exception()):
                self._agents[name] = self._loader.submit(self._load, name)
            loading = self._agents[name]
        return await asyncio.shield(asyncio.wrap_future(loading))

    def loaded(self) -> "dict[str, Agent]":
        """Those that are ready now."""
        return {name: found.result() for name, found in self._agents.items() if found.done() and not found.exception()}

    async def stream(self, agent: "Agent", text: str, session: str, author: str = "") -> "AsyncIterator[Event]":
        """`Agent.stream` from the other thread; left early, it returns when the turn has been logged as cancelled."""
        here, events = asyncio.get_running_loop(), asyncio.Queue[Any]()

        def put(item: Any) -> None:
            if not here.is_closed():
                here.call_soon_threadsafe(events.put_nowait, item)

        async def run() -> None:
            try:
                async for event in agent.stream(text, session, author):
                    put(event)
            except BaseException as error:
                put(error)
                raise
            finally:
                put(_END)

        turn = asyncio.run_coroutine_threadsafe(_kept(run()), self._loop)
        self._turns.add(turn)
        turn.add_done_callback(self._turns.discard)
        ended = False
        try:
            while (item := await events.get()) is not _END:
                if isinstance(item, BaseException):
                    ended = True
                    raise item
                yield item
            ended = True
        finally:
            if not ended:
                turn.cancel()
                while await events.get() is not _END:
                    pass

    async def call(self, work: Callable[..., Any], *given: Any) -> Any:
        """Something that blocks, such as a query, in a thread."""
        return await asyncio.to_thread(work, *given)

    def running(self) -> int:
        """How many turns run now."""
        return len(self._turns)

    def stop(self, seconds: float = 10) -> None:
        """Cancel the running turns and wait until they are logged."""
        logged = asyncio.run_coroutine_threadsafe(self._cancelled(), self._loop)
        logged.result(seconds)

    def close(self, seconds: float = 10) -> None:
        """Stop the turns, then close the agents; a second time is nothing."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self.stop(seconds)
        self._loader.shutdown(wait=False, cancel_futures=True)
        for agent in self.loaded().values():
            agent.close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(seconds)

    def _run(self) -> None:
        step_back()
        self._loop.run_forever()

    async def _cancelled(self) -> None:
        mine = [task for task in asyncio.all_tasks(self._loop) if task.get_name() == "turn"]
        for task in mine:
            task.cancel()
        await asyncio.gather(*mine, return_exceptions=True)


def step_back() -> None:
    """Let this thread, and those that it begins, compute behind the screen: a model takes every core that it gets."""
    if sys.platform == "linux":  # where a thread has a niceness of its own
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), max(NICE, os.getpriority(os.PRIO_PROCESS, 0)))


async def _kept(run: Any) -> None:
    """A turn that may be cancelled from either side; its outcome reached the queue already."""
    task = asyncio.create_task(run, name="turn")
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    except Exception:  # the screen got it
        return
