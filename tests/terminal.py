"""A command on a terminal of its own (a pty), as a person at a keyboard would have it: types, reads, waits, times."""

import os
import pty
import select
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

LETTERS = "абвгдежзиклмнопрстуфхцчшщъыьэюяѐђѓєѕіїјљњћќѝўџѡѣѥѧѩѫѭѯѱѳѵѷѹѻѽѿ"
"""What no screen shows by itself, so that a key's letter in the output is that key's."""


class Terminal:
    """`python *arguments` in a session of its own on a terminal of `size` columns and lines."""

    def __init__(self, arguments: Sequence[str], home: Path, size: tuple[int, int] = (100, 30),
                 environment: Mapping[str, str] | None = None) -> None:
        self.seen = b""
        """All that it wrote."""
        self.began = time.perf_counter()
        self.process, self.file = pty.fork()
        if self.process == 0:
            os.environ |= {"TERM": "xterm-256color", "COLUMNS": str(size[0]), "LINES": str(size[1]),
                           "RETUNE_HOME": str(home)} | dict(environment or {})
            os.execv(sys.executable, [sys.executable, *arguments])

    def read(self, seconds: float) -> bytes:
        """What comes until then, at once when there is something; EOFError if it has ended."""
        if not select.select([self.file], [], [], max(0.0, seconds))[0]:
            return b""
        try:
            new = os.read(self.file, 65536)
        except OSError as error:
            raise EOFError(f"it ended; its last words: {self.seen[-2000:]!r}") from error
        self.seen += new
        return new

    def shows(self, words: str, seconds: float = 60, since: int = 0) -> int:
        """Read until the words came after so many bytes; the place behind them."""
        wanted, end = words.encode(), time.monotonic() + seconds
        while (at := self.seen.find(wanted, since)) < 0:
            assert time.monotonic() < end, f"{words!r} never came: {self.seen[-2000:]!r}"
            self.read(0.2)
        return at + len(wanted)

    def rest(self, seconds: float) -> None:
        """Read on for so long."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.read(left)

    def type(self, text: str) -> int:
        """Type; the place in what is seen at which it was typed."""
        at = len(self.seen)
        os.write(self.file, text.encode())
        return at

    def key(self, letter: str, seconds: float = 30) -> float:
        """Seconds from a key to its letter on the screen."""
        began, wanted, seen = time.perf_counter(), letter.encode(), b""
        self.type(letter)
        while wanted not in seen:
            assert time.perf_counter() - began < seconds, f"{letter!r} never came: {self.seen[-2000:]!r}"
            seen += self.read(1)
        return time.perf_counter() - began

    def memory(self) -> float:
        """MB that the process holds (resident)."""
        for line in Path(f"/proc/{self.process}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1]) / 1024
        raise AssertionError("the process is gone")

    def end(self, sign: int | None = None, seconds: float = 30, close: bool = False, deaf: bool = False) -> int:
        """Send a signal or close the terminal, where that is wished, and wait for the exit status: negative for a signal.

        `deaf`: without reading what it still writes.
        """
        if sign is not None:
            os.kill(self.process, sign)
        if close:
            os.close(self.file)
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if not (close or deaf):
                with suppress(EOFError):
                    self.read(0.05)
            found, status = os.waitpid(self.process, os.WNOHANG)
            if found:
                if not close:
                    os.close(self.file)
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.02)
        os.kill(self.process, signal.SIGKILL)
        os.waitpid(self.process, 0)
        raise AssertionError("it did not end")
