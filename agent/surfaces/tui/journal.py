"""What is being said just now, on disk before anything else happens: a process that is killed in mid-answer loses none of it.

A file for each turn that runs, gone when the turn is logged. What a dead process left is logged by the next one, flagged as an
error, so that nothing is learned from it. Private values are marked as in the store. Knows no widget and no model.
"""

import json
import os
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from agent.errors import RetuneError
from agent.types import Turn

if TYPE_CHECKING:
    from agent.store import Store

CUT = "Retune ended while this was being answered"


class Journal:
    """`begin` a turn, tell what is known of it, `end` it when it is logged. Nothing here blocks: one thread writes in order."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._pen = ThreadPoolExecutor(1, "journal")
        self._stream: IO[bytes] | None = None
        self._redact: Callable[[str], str] = str

    def begin(self, session: str, domain: str, question: str) -> None:
        """A message was sent."""
        self._do(self._begin, session, domain, question)

    def route(self, turn: Turn) -> None:
        """It is known which turn it became."""
        self._do(self._put, {"turn": turn.id, "session": turn.session, "domain": turn.domain, "bundle": turn.bundle,
                             "intent": turn.intent, "question": turn.redacted})

    def say(self, text: str) -> None:
        """A piece of the answer was shown."""
        self._do(lambda: self._put({"said": self._redact(text)}))

    def end(self) -> None:
        """The turn is in the store, or the person was told that there is none."""
        self._do(self._end)

    def close(self) -> None:
        """Every turn is logged: nothing is left to keep; a second time is nothing."""
        self.end()
        self._pen.shutdown()

    def _do(self, work: Callable[..., None], *given: Any) -> None:
        with suppress(RuntimeError):  # it is closed
            self._pen.submit(work, *given)

    def _begin(self, session: str, domain: str, question: str) -> None:
        from agent.redact import Redactor

        self._end()
        self.folder.mkdir(parents=True, exist_ok=True)
        self._stream = (self.folder / f"{uuid.uuid4().hex}.jsonl").open("xb")
        _hold(self._stream)
        self._redact = Redactor().redact
        self._put({"session": session, "domain": domain, "question": self._redact(question)})

    def _put(self, row: dict[str, Any]) -> None:
        if self._stream:
            self._stream.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
            self._stream.flush()
            os.fsync(self._stream.fileno())

    def _end(self) -> None:
        if self._stream:
            stream, self._stream = self._stream, None
            stream.close()
            Path(stream.name).unlink(missing_ok=True)


def recover(folder: Path, store: "Store") -> int:
    """Log what dead processes left, each turn once; how many turns that were."""
    found = 0
    for file in sorted(folder.glob("*.jsonl")):
        with suppress(OSError), file.open("rb") as stream:  # gone or held by a running app: not ours
            if not _hold(stream):
                continue
            with suppress(RetuneError):  # of a session that is another's by now
                found += _logged(store, _read(stream))
            file.unlink(missing_ok=True)
    return found


def _read(stream: IO[bytes]) -> dict[str, Any]:
    """All of its lines as one; what was said is joined."""
    known: dict[str, Any] = {"said": ""}
    for line in stream:
        with suppress(ValueError):  # the last line may be cut
            row = json.loads(line)
            known |= row | {"said": known["said"] + row.get("said", "")}
    return known


def _logged(store: "Store", known: dict[str, Any]) -> bool:
    if not known.get("session") or ("turn" in known and store.turn(known["turn"])):
        return False
    saved, last = store.session(known["session"], known["domain"]), store.last_turn(known["session"])
    if "turn" not in known and last and last["question"] == known["question"]:
        return False  # stopped before it was routed, and logged
    turn = Turn(id=known.get("turn") or uuid.uuid4().hex, session=known["session"], domain=known["domain"],
                bundle=known.get("bundle", ""), question="", redacted=known["question"], intent=known.get("intent"))
    store.log(replace(turn, state="error", flags=("error",), reply=known["said"].strip()), saved["state"], error=CUT)
    return True


def _hold(stream: IO[bytes]) -> bool:
    """Lock an open file for as long as it is open; False if another process has it."""
    try:
        import fcntl
    except ImportError:  # Windows, where a file that is open cannot be deleted
        return True
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
