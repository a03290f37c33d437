"""A bundle in shadow routes the messages that the champion answers; what it thinks is written down, nobody is told.

One JSON line a turn: {"turn", "bundle", "intent", "confidence", "agreed"}. It hears the message alone, without what went
before it, and only its router runs: no reply is made twice.
"""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from agent.serving import Serving
from agent.types import Turn

WAITING = 100  # turns at most; more are not watched, for answering goes first


class Shadow:
    """`watch(serving, turn)` returns at once; the lines are on the disk after `close`."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._worker: ThreadPoolExecutor | None = None
        self._waiting = 0

    def watch(self, serving: Serving, turn: Turn) -> None:
        """Route the turn's message too, in the background; nothing for a turn that was not routed."""
        if turn.route is None or self._waiting >= WAITING:
            return
        self._worker = self._worker or ThreadPoolExecutor(1, thread_name_prefix="shadow")
        self._waiting += 1
        self._worker.submit(self._write, serving, turn)

    def _write(self, serving: Serving, turn: Turn) -> None:
        try:
            route = serving.router.route([turn.redacted])[0]
            row = {"turn": turn.id, "bundle": serving.bundle.name, "intent": route.intent,
                   "confidence": round(route.confidence, 4), "agreed": route.intent == (turn.route and turn.route.intent)}
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with self.file.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(row) + "\n")
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Wait for the turns that were given."""
        if self._worker:
            self._worker.shutdown()
