"""Rows that many hand in at once are written together: whoever finds nobody writing writes for all who wait.

So a transaction, and the disk's answer to it, is shared by as many as came while the one before was under way. Knows threads;
does not know what a row is or where it goes.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

MOST = 64
"""Rows of one transaction."""
Row = TypeVar("Row")


@dataclass(slots=True, eq=False)
class _Waiting:
    row: Any
    ended: bool = False
    error: Exception | None = None


class Group(Generic[Row]):
    """`put(row)` returns when `write` has written the row, which it gets with others in a list, in their order.

    `write` writes all of a list or raises and has written none. If it raises, each row is tried by itself, so that one bad row
    costs no other; unless the error has `again`, which says that the row was not to blame: then all of them get it.
    """

    def __init__(self, write: Callable[[list[Row]], None]) -> None:
        self._write = write
        self._waiting: list[_Waiting] = []
        self._queue, self._writing = threading.Lock(), threading.Lock()

    def put(self, row: Row) -> None:
        """Wait until the row is written; raises what writing it raised."""
        mine = _Waiting(row)
        with self._queue:
            self._waiting.append(mine)
        with self._writing:
            while not mine.ended:
                self._lead()
        if mine.error:
            raise mine.error

    def _lead(self) -> None:
        with self._queue:
            batch, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
        try:
            self._try(batch)
        finally:  # whoever is interrupted leaves what is undone to the next
            with self._queue:
                self._waiting[:0] = [each for each in batch if not each.ended]

    def _try(self, batch: list[_Waiting]) -> None:
        error = None
        try:
            self._write([each.row for each in batch])
        except Exception as failure:
            if len(batch) > 1 and not getattr(failure, "again", False):
                for each in batch:
                    self._try([each])
                return
            error = failure
        for each in batch:
            each.ended, each.error = True, error
