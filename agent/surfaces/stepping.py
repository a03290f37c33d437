"""An async iterator for code without an event loop, or inside one that it must not enter. Knows nothing of what comes."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

_END = object()


def stepped(begin: Callable[[], AsyncIterator[Any]]) -> Iterator[Any]:
    """What the async generator `begin()` yields, one step when one is asked for, on an event loop in a thread of its own.

    Left early, or interrupted, the generator is closed there before this returns.
    """
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="stepped", daemon=True)
    thread.start()
    items: Any = begin()

    async def step() -> Any:
        return await anext(items, _END)

    async def close() -> None:
        running = asyncio.all_tasks(loop) - {asyncio.current_task()}  # a step that was interrupted
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await items.aclose()
        await loop.shutdown_default_executor()

    try:
        while (item := asyncio.run_coroutine_threadsafe(step(), loop).result()) is not _END:
            yield item
    finally:
        asyncio.run_coroutine_threadsafe(close(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
