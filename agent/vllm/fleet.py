"""Several vLLM servers as one: which of them answers a session, which adapters each must have, and who is left alone.

Knows servers and adapters, not turns. A thread looks at every server every so often: one that was restarted or comes back
gets what it lacks, and answers for an adapter only after its canary. What is no longer wanted is unloaded when nothing here
runs on it.
"""

import hashlib
import json
import threading
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from agent import paths
from agent.errors import EngineError, Unreachable
from agent.settings import Settings
from agent.vllm.adapters import Adapter
from agent.vllm.proofs import Proofs
from agent.vllm.replica import Replica
from agent.vllm.wire import Limits, Server

EVERY_S = 5.0
AGAIN = 12  # looks from one new proof of what was proved to the next


def servers(settings: Settings) -> list[Server]:
    """Those of the setting, or the one that `retune vllm up` runs now; empty if none does."""
    limits = Limits(settings.vllm_connect_s, settings.vllm_first_token_s, settings.vllm_total_s)
    if settings.vllm:
        return [Server(url.strip().rstrip("/").removesuffix("/v1"), settings.vllm_key, limits)
                for url in settings.vllm.split(",") if url.strip()]
    try:
        said = json.loads((paths.vllm(settings.home) / "server.json").read_text(encoding="utf-8"))
        return [Server(said["url"], said["key"], limits)]
    except (OSError, ValueError, KeyError):
        return []


def open_fleet(settings: Settings) -> "Fleet":
    """The servers of the settings, with what earlier processes proved on them."""
    return Fleet(partial(servers, settings), partial(_seen, settings), paths.vllm(settings.home) / "proofs.json")


def _seen(settings: Settings, folder: Path) -> str:
    """The path of a folder in the home as the servers see it."""
    return str(Path(settings.vllm_home) / folder.relative_to(settings.home) if settings.vllm_home else folder.absolute())


class Fleet:
    """`want` an adapter, `pick` a server for a session; `look` keeps the servers right."""

    def __init__(self, find: Callable[[], Sequence[Server]], seen: Callable[[Path], str] = str, proofs: Path | None = None,
                 every: float = EVERY_S) -> None:
        """`find()`: the servers as they are configured now, asked anew at every look; `seen(folder)`: its path there;
        `proofs`: a file to remember them in."""
        self.find, self.seen, self.proofs, self.every = find, seen, Proofs(proofs), every
        self.replicas: list[Replica] = []
        self.wanted: dict[str, Adapter] = {}
        self.dropped: set[str] = set()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def want(self, adapter: Adapter) -> None:
        """Have every server that answers serve it; returns when all tried. Raises EngineError if none can."""
        self.wanted[adapter.name] = adapter
        self.dropped.discard(adapter.name)
        self.look()
        self._watch()
        if not any(adapter.name in replica.proved for replica in self.replicas):
            raise self.why(adapter.name)

    def has(self, name: str) -> bool:
        """Whether some server was seen to serve it."""
        return any(name in replica.proved for replica in self.replicas)

    def drop(self, name: str) -> None:
        """No longer wanted; unloaded at a later look. Returns at once, so that any thread may call it."""
        self.wanted.pop(name, None)
        self.dropped.add(name)

    def pick(self, name: str, session: str, without: Sequence[Replica] = ()) -> Replica:
        """The server for a session: the same one as long as it can, since it has the conversation in its cache.

        Raises EngineError, with the reason, if none is left.
        """
        ranked = sorted(self.replicas, key=lambda replica: _draw(replica.server.url, session), reverse=True)
        for replica in ranked:
            if name in replica.proved and replica not in without and replica.breaker.allows():
                return replica
        raise self.why(name)

    def why(self, name: str) -> EngineError:
        """The reason why no server answers for an adapter, as a new error: one that is kept would keep alive who raised it."""
        if not self.replicas:
            return Unreachable("No vLLM server is known: start one with `retune vllm up`, or set vllm to the URL of one.")
        for replica in self.replicas:
            if kept := replica.refused.get(name):
                return type(kept)(str(kept))
        failed = next((type(kept)(str(kept)) for kept in [replica.problem for replica in self.replicas] if kept), None)
        urls = ", ".join(replica.server.url for replica in self.replicas)
        return failed or Unreachable(f"No server answers for {name or 'the base'}: after several failures {urls} rest for some "
                                     "seconds; look at `retune vllm status`.")

    def look(self) -> None:
        """One round over all servers, side by side; what fails is kept as the server's problem."""
        with self._lock:
            self._follow()
            if self.replicas:
                with ThreadPoolExecutor(len(self.replicas), thread_name_prefix="vllm-look") as pool:
                    list(pool.map(self.look_at, self.replicas))
            self.dropped -= {name for name in tuple(self.dropped) if all(  # one that is down may have it when it comes back
                not replica.problem and name not in replica.has and not replica.in_flight[name] for replica in self.replicas)}

    def look_at(self, replica: Replica) -> None:
        """Load what it lacks, prove it, unload what nobody wants."""
        with replica.lock:
            try:
                replica.looks += 1
                replica.ask()
                for adapter in list(self.wanted.values()):
                    replica.prove(adapter, self.seen(adapter.folder) if adapter.folder else "", self.proofs)
                if replica.looks % AGAIN == 0:
                    replica.prove_again(dict(self.wanted), self.proofs)
                replica.unload(self.dropped)
                replica.refused = {name: error for name, error in replica.refused.items() if name in self.wanted}
                if replica.problem:
                    replica.breaker.well()
                replica.problem = None
            except EngineError as error:
                replica.problem = error
                replica.proved.clear()

    def lost(self, replica: Replica, name: str, looks: int) -> None:
        """It said, after so many of its looks, that it has no such adapter: load it again, unless somebody looked since."""
        if replica.looks == looks:
            replica.proved.discard(name)
            self.look_at(replica)

    def table(self) -> dict[str, Any]:
        """For status: {"servers": [...], "adapters": {name: {"on", "of"}}, "mixed": whether one has what another lacks}."""
        replicas = self.replicas
        spread = {name or "base": {"on": sum(name in replica.proved for replica in replicas), "of": len(replicas)}
                  for name in list(self.wanted)}
        return {"servers": [replica.table() for replica in replicas], "adapters": spread,
                "mixed": any(0 < one["on"] < one["of"] for one in spread.values())}

    def close(self) -> None:
        """Stop looking. Nothing is unloaded: the next process finds it there."""
        self._stop.set()

    def _follow(self) -> None:
        now = list(dict.fromkeys(self.find()))
        kept = {replica.server: replica for replica in self.replicas}
        if set(now) != set(kept):
            self.replicas = [kept.get(server) or Replica(server) for server in now]

    def _watch(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=_looking, args=(weakref.ref(self), self._stop, self.every), daemon=True,
                                            name="vllm-fleet")
            self._thread.start()


def _looking(fleet: "weakref.ref[Fleet]", stop: threading.Event, every: float) -> None:
    """Until nobody has the fleet any more."""
    while not stop.wait(every):
        if (now := fleet()) is None:
            return
        now.look()
        del now


def _draw(url: str, session: str) -> bytes:
    """Rendezvous hashing: a server that comes or goes moves no session but its own."""
    return hashlib.sha256(f"{url}\0{session}".encode()).digest()
