"""Who is answered next: messages of one session one after the other, in the order in which they came.

Knows sessions by name and event loops; does not know what a turn is. Other sessions wait for nobody.
"""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any


class Line:
    """`async with line.place(session)` waits until all who came before, in any thread or event loop, have left.

    A session that nobody waits for takes no memory. Whoever asks again from inside a place waits for themselves.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._places: dict[str, list[asyncio.Future[None]]] = {}  # the first has its turn

    @asynccontextmanager
    async def place(self, session: str) -> AsyncIterator[None]:
        """The block runs when it is this one's turn; one who is cancelled while waiting holds nobody up."""
        mine = asyncio.get_running_loop().create_future()
        with self._lock:
            waiting = self._places.setdefault(session, [])
            waiting.append(mine)
            if not (first := waiting[0] is mine):
                self._advance(session)
        try:
            if not first:
                await mine
            yield
        finally:
            with self._lock:
                if mine in waiting:
                    waiting.remove(mine)
                self._advance(session)

    def __len__(self) -> int:
        """How many sessions have somebody in line."""
        return len(self._places)

    def _advance(self, session: str) -> None:
        """Let the first one begin, and drop those whose event loop was closed under them; called with the lock."""
        waiting: list[Any] = self._places.get(session, [])
        while waiting:
            try:
                waiting[0].get_loop().call_soon_threadsafe(_begin, waiting[0])
                return
            except RuntimeError:  # its loop is closed: its turn can never end
                waiting.pop(0)
        self._places.pop(session, None)


def _begin(mine: "asyncio.Future[None]") -> None:
    if not mine.done():
        mine.set_result(None)
