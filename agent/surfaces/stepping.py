"""An async iterator for code without an event loop, or inside one that it must not enter. Knows nothing of what comes."""

import asyncio
import contextvars
import queue
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, suppress
from typing import Any

_END = object()


def stepped(begin: Callable[[], AsyncIterator[Any]]) -> Iterator[Any]:
    """What `begin()` yields, from a thread of its own; left early, it is closed there before this returns."""
    told: queue.SimpleQueue[Any] = queue.SimpleQueue()
    running: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]]] = []

    async def run() -> None:
        running.append((asyncio.get_running_loop(), asyncio.current_task()))
        try:
            async with aclosing(begin()) as items:
                async for item in items:
                    told.put((item, None))
            told.put((_END, None))
        except BaseException as error:  # handed to the waiting side, which raises it
            told.put((_END, error))

    thread = threading.Thread(target=contextvars.copy_context().run, args=(asyncio.run, run()), name="stepped")
    thread.start()
    try:
        while True:
            item, error = told.get()
            if error:
                raise error
            if item is _END:
                return
            yield item
    finally:
        for loop, task in running:
            with suppress(RuntimeError):  # it has ended, as it does by itself
                loop.call_soon_threadsafe(task.cancel)
        thread.join()
