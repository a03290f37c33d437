"""Python's garbage collector where keys must not wait for it: a full collection stops every thread for some hundred milliseconds.

Young garbage goes as ever; the old is collected only while nobody types and nothing is being answered.
"""

import gc
import time

from textual import events

IDLE_S = 2.0
"""Seconds without a key after which nobody seems to wait."""
ENOUGH, TOO_MUCH = 5, 400
"""Collections of middle-aged garbage since the last full one: worth a full one, and no longer to be put off."""


class Garbage:
    """`hear` every event of the app, `sweep` from time to time."""

    def __init__(self) -> None:
        self._touched = time.monotonic()

    def take_over(self) -> None:
        """Hardly a full collection by itself from now on."""
        young, middle, _ = gc.get_threshold()
        gc.set_threshold(young, middle, TOO_MUCH)

    def keep(self) -> None:
        """What is there now, such as loaded models, stays for good: no collection looks at it again."""
        gc.collect()
        gc.freeze()

    def hear(self, event: events.Event) -> None:
        """A key or the mouse: somebody is there."""
        if isinstance(event, events.InputEvent):
            self._touched = time.monotonic()

    def sweep(self, free: bool) -> None:
        """Collect, if it is worth it and nobody waits; `free`: nothing is being answered."""
        if free and time.monotonic() - self._touched > IDLE_S and gc.get_count()[2] >= ENOUGH:
            gc.collect()
