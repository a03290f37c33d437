"""Work that ends even if whoever waits for it is cancelled. Knows event loops and threads, not what the work is."""

import asyncio
from collections.abc import Callable


async def finish(work: Callable[[], None]) -> asyncio.CancelledError | None:
    """Do it in a thread, so that the event loop stays free, and return when it has ended; raises what it raised.

    A cancellation that comes meanwhile is returned for the caller to raise once the rest is done.
    """
    loop, cancelled = asyncio.get_running_loop(), None
    try:
        done = loop.run_in_executor(None, work)  # no task: an event loop that ends cancels those, begun or not
    except RuntimeError:  # the interpreter ends and begins no more threads
        return work()
    while not done.done():
        try:
            await asyncio.wait([done])
        except asyncio.CancelledError as told:
            cancelled = told
    done.result()
    return cancelled
