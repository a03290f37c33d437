"""Strikes: this process is killed, or its disk is full, just where a call is made or in the middle of what a file gets.

Knows functions and files by name, nothing about what is run. For forks alone: what is patched here stays patched.
"""

import errno
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

Strike = Callable[[], None]
Patch = Callable[[Strike], None]
"""Changes this process so that the strike happens there."""


def die() -> None:
    """As kill -9 does."""
    os.kill(os.getpid(), signal.SIGKILL)


def fill() -> None:
    """As a full disk does."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def strike_at(owner: Any, name: str, when: Callable[..., bool] = lambda *given, **named: True, after: bool = False,
              ) -> Patch:
    """Strikes before (or after) the call of owner.name for which `when` is true."""

    def patch(strike: Strike) -> None:
        real = getattr(owner, name)

        def struck(*given: Any, **named: Any) -> Any:
            mine = when(*given, **named)
            if mine and not after:
                strike()
            done = real(*given, **named)
            if mine and after:
                strike()
            return done

        setattr(owner, name, struck)

    return patch


def halfway(file: Callable[[Path], bool], line: int = 1) -> Patch:
    """Strikes in the middle of a file's writing: of its n-th line where it grows by lines."""

    def patch(strike: Strike) -> None:
        write_text, open_ = Path.write_text, Path.open

        def half(path: Path, text: str, *given: Any, **named: Any) -> int:
            done = write_text(path, text[:len(text) // 2] if file(path) else text, *given, **named)
            if file(path):
                strike()
            return done

        def opened(path: Path, mode: str = "r", *given: Any, **named: Any) -> Any:
            stream = open_(path, mode, *given, **named)
            return Growing(stream, strike, line) if "a" in mode and file(path) else stream

        Path.write_text, Path.open = half, opened  # type: ignore[method-assign, assignment]

    return patch


class Growing:
    """A stream whose n-th line ends in the middle."""

    def __init__(self, stream: Any, strike: Strike, line: int) -> None:
        self._stream, self._strike, self._left = stream, strike, line

    def __enter__(self) -> "Growing":
        return self

    def __exit__(self, *error: object) -> None:
        self._stream.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, content: Any) -> int:
        """All of it, or the first half of the line that is struck."""
        self._left -= 1
        done = self._stream.write(content if self._left else content[:len(content) // 2])
        if not self._left:
            self._stream.flush()
            self._strike()
        return done


def second() -> Callable[..., bool]:
    """True at the second call."""
    calls = iter([False, True])
    return lambda *given, **named: next(calls, False)


def to(start: str) -> Callable[..., bool]:
    """Whether a file is moved to a name that starts so."""
    return lambda source, target, **named: Path(target).name.startswith(start)


def part_of(folder: str) -> Callable[..., bool]:
    """Whether an adapter is copied to somewhere below a folder of that name."""
    return lambda source, target, **named: folder in Path(target).parts and Path(target).name == "adapter_model.safetensors"


def of_work(name: str) -> Callable[[Path], bool]:
    """A file beside the bundle that is being made, also under its name before it counts."""
    return lambda path: path.name in (name, f".{name}") and path.parent.parent.name == "training"


def called(name: str) -> Callable[[Path], bool]:
    """A file of that name."""
    return lambda path: path.name == name
