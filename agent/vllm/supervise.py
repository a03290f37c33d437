"""Keeps one server running until told to stop: `python -m agent.vllm.supervise HOME PLAN`, detached.

Knows a command and an address. A server that dies or turns deaf is started anew, later each time; one that was never well is
not: what is wrong with it, waiting will not mend. Everything that it prints goes to the log.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout

from agent import paths
from agent.vllm.running import LOG, STATE, Running, born, end_group, healthy

LONGEST_LOG = 20 << 20  # bytes; then it becomes server.log.1, of which one is kept
# Names that a server has no business with: settings of ours (keys among them) and what would open its unguarded routes.
KEPT_BACK = ("RETUNE_", "VLLM_SERVER_DEV_MODE", "VLLM_API_KEY")


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds."""

    first: float = 1
    """Before the first new start; twice that before the next, and so on."""
    longest: float = 60
    well: float = 300
    """After so long a health, waiting begins at `first` again."""
    deaf: float = 120
    """A server that was well and is silent for so long is killed."""
    gentle: float = 5
    """Between asking a server to end and killing it."""
    look: float = 1


PACE = Pace()


class Keeper:
    """`run()` starts the server and stays until `stopping` is set."""

    def __init__(self, home: Path, plan: Running, pace: Pace = PACE, longest_log: int = LONGEST_LOG) -> None:
        self.home, self.plan, self.pace = home, plan, pace
        self.log = Log(paths.vllm(home) / LOG, longest_log)
        self.stopping = False
        self.restarts = 0

    def run(self) -> int:
        """0 after a stop that was asked for, 1 if the server never came up. Leaves no process and no state behind."""
        wait = self.pace.first
        try:
            while True:
                well = self._serve()
                if self.stopping:
                    return 0
                if well is None and not self.restarts:
                    self.log.say("it never answered, so it is not started again")
                    return 1
                wait = self.pace.first if (well or 0) >= self.pace.well else wait
                self.log.say(f"starting it again in {wait:g} s")
                self._sleep(wait)
                if self.stopping:
                    return 0
                wait = min(2 * wait, self.pace.longest)
                self.restarts += 1
        finally:
            (paths.vllm(self.home) / STATE).unlink(missing_ok=True)

    def _serve(self) -> float | None:
        """One life of the server; how many seconds it was well, None if it never was."""
        secret = {"VLLM_API_KEY": self.plan.key}
        ours = {name: value for name, value in os.environ.items() if not name.startswith(KEPT_BACK)}
        self.log.say(f"starting {' '.join(self.plan.command)}")
        try:
            child = subprocess.Popen(self.plan.command, cwd=paths.vllm(self.home), env=ours | self.plan.environment | secret,
                                     stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                     start_new_session=True)
        except OSError as error:  # that Python is gone, or there is no memory for a process
            self.log.say(f"OSError: it cannot be started: {error}")
            return None
        assert child.stdout is not None, "stdout is piped"
        pump = threading.Thread(target=self.log.take, args=(child.stdout,), daemon=True)
        pump.start()
        try:
            self._note(child.pid)
            well = self._watch(child)
        finally:
            end_group(child.pid, self.pace.gentle if child.poll() is None else 0)  # the leader's end is not always the group's
            code = child.wait()
            pump.join(2)
            self.log.say(f"it ended {f'by signal {-code}' if code < 0 else f'with code {code}'}")
        self._note(0)
        return well

    def _watch(self, child: "subprocess.Popen[bytes]") -> float | None:
        """Until it ends, turns deaf or is to be stopped."""
        first = last = 0.0
        while child.poll() is None and not self.stopping:
            if healthy(self.plan.address):
                last = time.monotonic()
                if not first:
                    first = last
                    self._note(child.pid, answered=True)
            elif first and time.monotonic() - last > self.pace.deaf:
                self.log.say(f"it has been silent for {self.pace.deaf:g} s")
                break
            self._sleep(self.pace.look if first else min(self.pace.look, 0.2))
        return last - first if first else None

    def _note(self, pid: int, answered: bool = False) -> None:
        """For `retune vllm status`, and for whoever clears up after a keeper that was killed."""
        try:
            self.plan.with_server(pid, self.restarts, answered).write(self.home)
        except OSError as error:  # a full disk is no reason to stop answering
            self.log.say(f"the state could not be written: {error}")

    def _sleep(self, seconds: float) -> None:
        """In short naps: a signal only sets a mark, since a lock taken in its handler could be held already."""
        until = time.monotonic() + seconds
        while not self.stopping and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, 0.1))


class Log:
    """A file that is moved away once it is long."""

    def __init__(self, path: Path, longest: int) -> None:
        self.path, self.longest = path, longest
        self._lock = threading.Lock()

    def say(self, text: str) -> None:
        """A line of our own."""
        self._write(f"retune: {datetime.now(UTC):%Y-%m-%d %H:%M:%S} {text}\n".encode())

    def take(self, source: BinaryIO) -> None:
        """Everything that a process prints, until it has closed its end. A full disk stops the log, never the server."""
        with source:
            while chunk := source.readline(1 << 16):
                self._write(chunk)

    def _write(self, chunk: bytes) -> None:
        with self._lock:
            try:
                if self.path.exists() and self.path.stat().st_size + len(chunk) > self.longest:
                    os.replace(self.path, self.path.with_name(f"{self.path.name}.1"))
                number = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
                with os.fdopen(number, "wb") as stream:
                    stream.write(chunk)
            except OSError:
                return


def main(home: Path, plan: Path) -> int:
    """Keep the server that a plan tells of; 3 if another one is kept in this home. The plan is taken away: it holds the key."""
    said = Running(**json.loads(plan.read_text(encoding="utf-8")))
    plan.unlink()
    try:
        with FileLock(paths.vllm(home) / f"{STATE}.lock").acquire(blocking=False):
            keeper = Keeper(home, replace(said, pid=os.getpid(), born=born(os.getpid())))
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, lambda *_: setattr(keeper, "stopping", True))
            keeper.plan.write(home)
            return keeper.run()
    except Timeout:
        return 3


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
