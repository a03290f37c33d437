"""Keeps a running agent on what the registry says: loads beside, verifies, then swaps by one assignment.

Knows aliases and servings, not what a turn is: a running turn holds the serving that it began with, and the memory of a
replaced one is free when its last turn ends. Where memory allows the challenger is loaded ahead and the champion before is
kept, so that a promotion and a rollback are a check of hashes and the assignment.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from agent.errors import BundleError, EngineError, Rejected
from agent.registry import Bundle, Canary, Registry
from agent.serving import Bases, Serving, Trial

if TYPE_CHECKING:
    from agent.agent import Agent

Sign = tuple[int, int, int] | None
AGAIN_S = 5.0
AHEAD = 3.0  # times the size of the base models' files: what loading a second pair takes at its height, with room to spare


class Follower:
    """`start` looks every so many seconds in a thread of its own; `look` does it once. `load(version)` gives a Serving."""

    def __init__(self, agent: "Agent", load: Callable[[str], Serving], every: float = 0.2,
                 room: Callable[[], bool] = lambda: True) -> None:
        """`room()`: whether memory allows to load the challenger ahead."""
        self.agent, self.load, self.every, self.room = agent, load, every, room
        self.registry = Registry(agent.domain, agent.settings.home)
        self.replaced: WeakSet[Serving] = WeakSet()
        """Servings that still answer the turns they began, and are gone after the last."""
        self.ahead: Serving | None = None
        self.kept: Serving | None = None
        """The champion before, for as long as it may come back."""
        self.counts: Counter[str] = Counter()
        """How often a bundle took over (`swapped`), and how often one that should serve could not (`refused`)."""
        self._seen: tuple[Sign, bytes] | None = None
        self._again = 0.0
        """When to try once more although no alias changed, since a server was away; 0.0: not at all."""
        self._said = ""
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Look until `stop`; a daemon, so that it never keeps a process alive."""
        self._thread = threading.Thread(target=self._run, name=f"follow-{self.agent.domain.name}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Returns when the thread has ended; a loading that goes on is waited for."""
        self._stop.set()
        if self._thread:
            self._thread.join()

    def look(self) -> None:
        """Follow the aliases if they changed since the last look. What cannot be served is told once; the old one stays."""
        seen, due = self._read(), bool(self._again) and time.monotonic() >= self._again
        if seen == self._seen and not due:
            return
        self._seen, self._again = seen, 0.0  # a bundle that failed is tried again when the aliases change again, not before
        self._told("the champion", self._follow_champion)
        self._told("the canary", self._follow_canary)
        self._told("the challenger", self._load_ahead)
        self._told("the champion before", self._let_go)

    def _run(self) -> None:
        while not self._stop.wait(self.every):
            self.look()

    def _read(self) -> tuple[Sign, bytes]:
        """Stat and content; the content is read again only when the stat has changed."""
        file = self.registry.alias_file
        try:
            stat = file.stat()
            sign = stat.st_ino, stat.st_mtime_ns, stat.st_size
            return self._seen if self._seen and self._seen[0] == sign else (sign, file.read_bytes())
        except OSError:  # no aliases: the starter
            return None, b""

    def _told(self, what: str, follow: Callable[[], None]) -> None:
        try:
            follow()
        except Exception as error:  # whatever a damaged bundle makes a library raise, the agent goes on answering
            said = (f"{what} of {self.agent.domain.name} cannot be served: {error} "
                    f"{self.agent.serving.bundle.name} goes on answering.")
            if isinstance(error, EngineError) and not isinstance(error, Rejected):  # but a server comes back
                self._again = time.monotonic() + AGAIN_S
                if said == self._said:
                    return
                self._said = said
            self.counts["refused"] += 1
            self.agent.notice(said)

    def _follow_champion(self) -> None:
        wanted, old = self.registry.get("champion"), self.agent.serving
        if _same(old, wanted):
            return
        new = self._loaded(wanted)
        self.agent.serving = new  # the swap
        self.counts["swapped"] += 1
        self.replaced.add(old)
        self.kept = old if self.room() else None
        self.agent.notice(f"{wanted.name} answers now, after {old.bundle.name}.")

    def _follow_canary(self) -> None:
        wanted, old = self.registry.canary(), self.agent.trial
        new = None
        try:
            new = self._trial(wanted) if wanted else None
        finally:  # a trial that ended does not go on because the next one cannot be loaded
            self.agent.trial = new
            if old and (new is None or new.serving is not old.serving) and old.serving is not self.agent.serving:
                self.replaced.add(old.serving)

    def _trial(self, wanted: Canary) -> Trial:
        return Trial(self._loaded(self.registry.get(str(wanted.version))), wanted.share, wanted.shadow)

    def _load_ahead(self) -> None:
        number = self.registry.aliases().get("challenger")
        if number is None:
            self.ahead = None
            return
        wanted = self.registry.get(str(number))
        if not (self.ahead and _same(self.ahead, wanted)):
            self.ahead = None  # two challengers at once are never held
            if self.room():
                self.ahead = self._loaded(wanted)

    def _let_go(self) -> None:
        if self.kept and self.registry.aliases().get("previous") != self.kept.bundle.version:
            self.kept = None

    def _loaded(self, wanted: Bundle) -> Serving:
        """A serving that is ready and whose files hash to what the registry says; one in memory is taken first."""
        trial = self.agent.trial
        here = [self.agent.serving, self.ahead, self.kept, trial.serving if trial else None]
        found = next((each for each in here if each and _same(each, wanted)), None) or self.load(str(wanted.version))
        found.warm()
        if found.fingerprint() != wanted.hash:
            raise BundleError(f"Bundle {wanted.name} was changed while it was loaded; look at `retune audit --verify`.")
        return found


def memory_for(bases: Bases) -> Callable[[], bool]:
    """Whether a second pair of models fits into the memory that is free now; no where the system does not tell."""
    def size(folder: Path) -> int:
        return sum(file.stat().st_size for file in folder.glob("*.safetensors"))

    need = AHEAD * sum(size(base.path) for base in (bases.encoder, bases.generator) if base)
    return lambda: _free_memory() >= need


def _free_memory() -> int:
    """Bytes, of Linux; 0 elsewhere."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    table: dict[str, Any] = dict(line.split(":", 1) for line in lines)
    return int(table.get("MemAvailable", "0 kB").split()[0]) * 1024


def _same(serving: Serving, bundle: Bundle) -> bool:
    return (serving.bundle.version, serving.bundle.hash) == (bundle.version, bundle.hash)
