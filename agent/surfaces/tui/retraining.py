"""A retraining in a process of its own, watched through the file that it writes its steps to.

The process belongs to no screen: it goes on when the app is left, and the next app finds it by its file. Knows processes and
lines of JSON; knows neither models nor widgets.
"""

import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from agent.errors import DataError

if TYPE_CHECKING:
    from agent.settings import Settings
    from tuning.plan import Plan

Points = tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far it is."""

    running: bool = False
    began: str = ""
    pid: int = 0
    stage: str = ""
    """Empty until the first step."""
    epoch: int = 0
    done: int = 0
    total: int = 0
    seconds: float = 0.0
    """Since it began, at the last step."""
    first: tuple[float, int] = (0.0, 0)
    """Seconds and steps done at the stage's first step."""
    loss: Points = ()
    """(step, loss) of the stage."""
    held_out: Points = ()
    note: str = ""
    """The last sentence about it."""
    status: str = ""
    """How it ended: promoted, refused, abstained, nothing, failed, stopped."""
    bundle: str = ""
    words: str = ""

    @property
    def left_s(self) -> float | None:
        """Seconds until the stage ends, if its steps go on as they went; None while that cannot be told."""
        steps, seconds = self.done - self.first[1], self.seconds - self.first[0]
        return seconds / steps * (self.total - self.done) if steps > 0 and seconds > 0 and self.running else None


@dataclass(slots=True)
class _Reading:
    first: bytes = b""
    """The file's first line says when it was begun, so it tells one from another."""
    at: int = 0
    rest: bytes = b""
    loss: list[tuple[float, float]] = field(default_factory=list)
    held_out: list[tuple[float, float]] = field(default_factory=list)
    spoken: str = ""


class Retraining:
    """One domain's; every method may block for a moment, so call them in a thread, one at a time."""

    def __init__(self, domain: str, folder: Path) -> None:
        self.domain, self.file = domain, folder / f"{domain}.steps.jsonl"
        self.progress = Progress()
        self._reading = _Reading()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, command: Sequence[str], more: Mapping[str, str] | None = None) -> None:
        """Run it, with `more` environment; DataError if the domain is being retrained already."""
        from filelock import FileLock

        self.file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self.file.with_suffix(".lock")):
            if self.look().running:
                raise DataError(f"{self.domain} is being retrained already; watch it on this screen, or stop it first.")
            self.file.unlink(missing_ok=True)
            with self.file.open("ab") as stream:
                _lock(stream, wait=True)  # held through the file that the process writes to, until it is gone
                stream.write(json.dumps({"began": datetime.now(UTC).isoformat(timespec="microseconds")}).encode() + b"\n")
                stream.flush()
                self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT,
                                                 env={**os.environ, **(more or {})}, start_new_session=True)
                stream.write(json.dumps({"pid": self._process.pid}).encode() + b"\n")
        self.look()

    def look(self) -> Progress:
        """Read what was written since the last look."""
        self._read()
        if running := self._runs():
            self.progress = replace(self.progress, running=not self.progress.status)
            return self.progress
        self._read()  # what it wrote before it ended
        self.progress = replace(self.progress, running=running)
        if self.progress.began and not self.progress.status:
            said = self._reading.spoken.removeprefix("retune: ")
            self.progress = replace(self.progress, status="failed", words=said or "it ended without a word; begun again, it "
                                    "goes on from its last saved state.")
        return self.progress

    def stop(self) -> None:
        """End it; what it finished lies there for the next one. Nothing if it does not run."""
        if not self.look().running or self.progress.pid <= 1:  # 0 and less would mean other processes
            return
        with self.file.open("ab") as stream:
            stream.write(b'{"status": "stopped", "words": "Begun again, it goes on from its last saved state."}\n')
        with suppress(ProcessLookupError):
            os.kill(self.progress.pid, signal.SIGTERM)
        if self._process:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(30)
        self.look()

    def _runs(self) -> bool:
        if self._process:
            return self._process.poll() is None
        if not self.file.is_file():
            return False
        with self.file.open("rb") as stream:
            return not _lock(stream)

    def _read(self) -> None:
        if not self.file.is_file():
            return
        with self.file.open("rb") as stream:
            if (first := stream.readline()) != self._reading.first:  # another one was begun, perhaps elsewhere
                self.progress, self._reading = Progress(), _Reading(first)
            stream.seek(self._reading.at)
            new = stream.read()
        self._reading.at += len(new)
        *lines, self._reading.rest = (self._reading.rest + new).split(b"\n")
        for line in lines:
            try:
                row = json.loads(line)
            except ValueError:
                self._reading.spoken = line.decode(errors="replace").strip() or self._reading.spoken
            else:
                if isinstance(row, dict):
                    with suppress(KeyError, TypeError, ValueError):  # a line of another version of this program
                        self._take(row)
        self.progress = replace(self.progress, loss=tuple(self._reading.loss), held_out=tuple(self._reading.held_out))

    def _take(self, row: dict[str, Any]) -> None:
        old = self.progress
        if "began" in row or "pid" in row:
            self.progress = replace(old, pid=int(row.get("pid", old.pid)), began=str(row.get("began", old.began)))
        elif "note" in row:
            self.progress = replace(old, note=str(row["note"]), stage="", seconds=float(row["s"]))
        elif "status" in row:
            self.progress = replace(old, status=str(row["status"]), bundle=row.get("bundle") or "", words=str(row["words"]))
        else:
            stage, done, seconds = str(row["stage"]), int(row["done"]), float(row["s"])
            loss, held = float(row["loss"]), row["held_out"]
            fresh = stage != old.stage
            if fresh:
                self._reading.loss, self._reading.held_out = [], []
            self.progress = replace(old, stage=stage, epoch=int(row["epoch"]), done=done, total=int(row["total"]),
                                    seconds=seconds, first=(seconds, done) if fresh else old.first)
            if held is None and math.isfinite(loss):
                self._reading.loss.append((done, loss))
            elif held is not None and math.isfinite(held):
                self._reading.held_out.append((done, float(held)))


def _lock(stream: IO[bytes], wait: bool = False) -> bool:
    """Lock an open file, together with every process that inherits it; False if another has it."""
    try:
        import fcntl
    except ImportError:  # Windows: only the app that began it knows that it runs
        return True
    try:
        fcntl.flock(stream, fcntl.LOCK_EX if wait else fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def command(table: str, settings: "Settings", plan: "Plan") -> list[str]:
    """How `retune retrain` is run for a domain, as its plan in schedule.toml would have it."""
    return [sys.executable, "-m", "agent.surfaces.cli", "retrain", table, "--steps", "--recipe", plan.recipe,
            "--nice", str(plan.nice), "--home", str(settings.home)]
