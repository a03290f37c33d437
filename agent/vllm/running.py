"""The one server that Retune runs itself, as its state file tells of it, and whether that is still true.

Knows processes and the file, nothing about vLLM. A process is told from a later one with the same number by when it was born.
"""

import http.client
import json
import os
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self

from agent import paths

STATE = "server.json"
LOG = "server.log"


@dataclass(frozen=True, slots=True)
class Running:
    """A server and the process that keeps it running; what `server.json` holds."""

    url: str
    key: str = field(repr=False)
    base: str
    """The name that it serves the base model under."""
    model: str
    """The base model's folder."""
    flags: dict[str, Any]
    """vLLM's options without dashes, such as {"max-lora-rank": 16}."""
    extra: list[str]
    """Options that were handed to vLLM as they are."""
    command: list[str]
    environment: dict[str, str]
    """What the server's environment has beyond this one's; nothing of it is secret."""
    started: str = ""
    """ISO time, UTC, of the first start."""
    pid: int = 0
    """Of the process that keeps it running."""
    born: str = ""
    server: int = 0
    """Of vLLM itself, which leads a process group of its own; 0 between two starts."""
    server_born: str = ""
    restarts: int = 0
    answered: bool = False
    """Whether it was well since it was started last."""

    @classmethod
    def read(cls, home: Path) -> Self | None:
        """What the file says, true or not; None if there is none, or none that can be read."""
        try:
            table = json.loads((paths.vllm(home) / STATE).read_text(encoding="utf-8"))
            known = {each.name for each in fields(cls)}
            return cls(**{name: value for name, value in table.items() if name in known})
        except (OSError, ValueError, TypeError, AttributeError):
            return None

    def write(self, home: Path) -> None:
        """Put it in place of what was there, for nobody else's eyes: it holds the key."""
        folder = paths.vllm(home)
        number, scratch = tempfile.mkstemp(dir=folder, prefix=f".{STATE}.")  # mode 0600
        with os.fdopen(number, "w", encoding="utf-8") as stream:
            json.dump(asdict(self), stream, indent=1)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(scratch, folder / STATE)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        host, _, port = self.url.removeprefix("http://").rpartition(":")
        return host, int(port)

    @property
    def kept(self) -> bool:
        """Whether the process that keeps it running is there."""
        return alive(self.pid, self.born)

    def with_server(self, pid: int, restarts: int, answered: bool = False) -> "Running":
        """The same with another process of vLLM, 0 for none."""
        return replace(self, server=pid, server_born=born(pid) if pid else "", restarts=restarts, answered=answered)


def now(home: Path) -> Running | None:
    """The server that runs now, or is being started; None if none is, whatever a file says that outlived it."""
    said = Running.read(home)
    return said if said and said.kept else None


def healthy(address: tuple[str, int], wait_s: float = 2) -> bool:
    """Whether /health says 200."""
    asked = http.client.HTTPConnection(*address, timeout=wait_s)  # no proxy stands between a machine and itself
    try:
        asked.request("GET", "/health")
        return asked.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        asked.close()


def clear(home: Path) -> None:
    """Take away what a keeper that is gone has left: its file, and vLLM if that outlived it. Not for one that is there."""
    said = Running.read(home)
    if said and alive(said.server, said.server_born):
        end_group(said.server)
    (paths.vllm(home) / STATE).unlink(missing_ok=True)


def born(pid: int) -> str:
    """When a process began, as the system tells it; empty if there is none, or it is dead and only not yet buried."""
    try:
        # The name, in brackets, may hold blanks and brackets itself; after it come the state and, as 20th, the start in ticks.
        told = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return "" if told[0] in "ZX" else f"{told[19]} {_boot()}"
    except (OSError, IndexError):
        pass
    if Path("/proc/self/stat").exists():
        return ""
    done = subprocess.run(["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True)
    state, _, start = done.stdout.strip().partition(" ")
    return "" if state.startswith("Z") else start.strip()


def alive(pid: int, since: str) -> bool:
    """Whether that very process is there, not another that got its number."""
    return pid > 0 and bool(since) and born(pid) == since


def end_group(pid: int, gentle_s: float = 0) -> None:
    """End a process that leads a group, and all of the group: asked first if there is time, then killed."""
    if gentle_s:
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGTERM)
        until = time.monotonic() + gentle_s
        while born(pid) and time.monotonic() < until:
            time.sleep(0.05)
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    except OSError:
        return ""
