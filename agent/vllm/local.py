"""The server that Retune runs itself: started and waited for, stopped, and what its log says.

What is run is told by `agent.vllm.flags`; the process that keeps it running is `agent.vllm.supervise`.
"""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from agent import models, paths
from agent.settings import Settings
from agent.vllm import install, running
from agent.vllm.flags import Options, needed, plan
from agent.vllm.install import NoServer
from agent.vllm.running import LOG, Running

DOWN_S = 10.0
PLAIN = Options()
ELSEWHERE = "The servers at {} are run by somebody else, who starts and stops them; empty the setting vllm to run one here."


@dataclass(frozen=True, slots=True)
class Waiting:
    """Seconds since the start, and what the server said last."""

    seconds: float
    said: str


def up(settings: Settings, options: Options = PLAIN, wait_s: float = 600) -> Iterator[Waiting | Running]:
    """Start the server and wait until it is well; the last thing yielded is what runs.

    Where one runs already, that alone is yielded. Raises NoServer, and leaves nothing running, if there is no vLLM, one runs
    with other flags, it dies, or it is not well in time; so does closing the generator before the end.
    """
    if settings.vllm:
        raise NoServer(ELSEWHERE.format(settings.vllm))
    folder = paths.vllm(settings.home)
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        if already := running.now(settings.home):
            if differs := _other(already, settings, options):
                raise NoServer(f"A server runs at {already.url} with {differs}; stop it first with `retune vllm down`.")
            if running.healthy(already.address):
                yield already
                return
            raise NoServer(f"A server at {already.url} is being started, or is not well; look at `retune vllm logs`, or "
                           "stop it with `retune vllm down`.")
        running.clear(settings.home)
        installed = install.find(settings)
        if installed.breakers:
            raise NoServer(f"{' and '.join(installed.breakers)} keep this CPU build of vLLM from starting; run "
                           f"`{installed.python} -m pip uninstall {' '.join(installed.breakers)}`.")
        base = models.find(settings.generator, settings)
        if base is None:
            raise NoServer(f"The base model {settings.generator} is not here yet; run `retune models`.")
        yield from _start(plan(settings, installed, base, options), settings.home, wait_s)


def down(home: Path, wait_s: float = DOWN_S) -> bool:
    """Stop the server; True if one ran. What a killed one left behind is cleared as well."""
    said = running.now(home)
    if said:
        with suppress(ProcessLookupError):
            os.kill(said.pid, signal.SIGTERM)
        until = time.monotonic() + wait_s
        while said.kept and time.monotonic() < until:
            time.sleep(0.05)
        if said.kept:
            with suppress(ProcessLookupError):
                os.kill(said.pid, signal.SIGKILL)
    running.clear(home)
    return said is not None


def reason(lines: Sequence[str]) -> str:
    """Why a server died, from the last lines of its log: the cause, not the many that only hand it on."""
    plain = [_plain(line) for line in lines]
    causes = [line for line in plain if re.match(r"[\w.]*(Error|Exception|Interrupt)\b|.*\berror: ", line)]
    first_hand = [line for line in causes if "root cause" not in line.lower() and "EngineCore failed" not in line]
    if ended := [line for line in plain if line.startswith("it ended by signal 9")]:
        return ended[-1].replace("it ended", "it was ended") + ", as a machine without free memory does"
    if first_hand or causes:
        return (first_hand or causes)[-1]
    return next((line for line in reversed(plain) if line and not line.startswith("it ")), "it said nothing")


def tail(home: Path, count: int) -> list[str]:
    """The last lines of the log, those of the file before it too."""
    files = (paths.vllm(home) / f"{LOG}.1", paths.vllm(home) / LOG)
    found: list[str] = []
    for file in files:
        with suppress(OSError):
            found += file.read_text(encoding="utf-8", errors="replace").splitlines()
    return found[-count:] if count > 0 else []


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    try:
        with FileLock(folder / "up.lock").acquire(blocking=False):
            yield
    except Timeout as error:
        raise NoServer("A server is being started by another `retune vllm up`; wait for that one.") from error


def _start(planned: Running, home: Path, wait_s: float) -> Iterator[Waiting | Running]:
    folder = paths.vllm(home)
    log = folder / LOG
    before = log.stat().st_size if log.exists() else 0
    number, file = tempfile.mkstemp(dir=folder, prefix=".plan.")
    with os.fdopen(number, "w", encoding="utf-8") as stream:
        json.dump(asdict(planned), stream)
    keeper = subprocess.Popen([sys.executable, "-m", "agent.vllm.supervise", str(home.absolute()), file], cwd=paths.PROJECT,
                              stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                              start_new_session=True)
    begun, came = time.monotonic(), False
    try:
        while not came:
            seconds = time.monotonic() - begun
            if keeper.poll() is not None:
                raise NoServer(f"vLLM did not start: {reason(_since(log, before))}. `retune vllm logs` shows all that it said.")
            if seconds > wait_s:
                raise NoServer(f"vLLM was not well after {wait_s:g} s, so it was stopped; it said last: "
                               f"{_last(_since(log, before))!r}. Give it longer with --wait, or see `retune vllm logs`.")
            if (said := running.now(home)) and said.answered:
                came = True
                yield said
            else:
                yield Waiting(seconds, _last(_since(log, before)))
                time.sleep(0.2)
    finally:
        if not came:
            Path(file).unlink(missing_ok=True)
            if keeper.poll() is None:
                keeper.terminate()
                with suppress(subprocess.TimeoutExpired):
                    keeper.wait(DOWN_S)
                keeper.kill()
                keeper.wait()
            running.clear(home)


def _other(already: Running, settings: Settings, options: Options) -> str:
    """In what the server that runs is not the one that is asked for; empty if in nothing."""
    base = models.find(settings.generator, settings)
    said: dict[str, Any] = {"base": already.base, "port": already.address[1], "options": already.extra, **already.flags}
    wanted: dict[str, Any] = {"base": settings.generator, "options": list(options.extra)}
    if options.port:
        wanted["port"] = options.port
    if base:
        wanted |= needed(settings, "enforce-eager" in already.flags, base, options)
    return ", ".join(f"{name} {said.get(name)} (asked: {value})" for name, value in wanted.items() if said.get(name) != value)


def _since(log: Path, start: int) -> list[str]:
    """Lines of the log after a place in it; all of it if it was begun anew meanwhile."""
    try:
        with log.open("rb") as stream:
            stream.seek(start if log.stat().st_size >= start else 0)
            return stream.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return []


def _last(lines: Sequence[str]) -> str:
    """The last line that tells a person something: one that vLLM logged as information, as a sentence."""
    told = (_plain(line) for line in reversed(lines) if re.search(r"\bINFO\b", line) and "Route:" not in line)
    return next((line for line in told if re.match(r"[A-Z][\w.-]* \w", line)), "starting")[:100]


def _plain(line: str) -> str:
    """A line without who said it, when, and where in the code."""
    line = re.sub(r"^retune: \S+ \S+ ", "", line.strip())
    line = re.sub(r"^(\([\w-]+ pid=\d+\) )?((INFO|WARNING|ERROR|DEBUG):?\s+([\d-]+ [\d:]+ )?(\[[^\]]*\] )?)?", "", line)
    return line.strip()
