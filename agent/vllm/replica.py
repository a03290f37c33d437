"""One server of several, and what it was seen to do: which adapters it has, which of them were proved, and why not the others.

Knows one server and adapters; nothing about sessions or other servers.
"""

import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Set
from contextlib import contextmanager
from typing import Any

from agent.errors import EngineError, Rejected, Unreachable
from agent.vllm import canary
from agent.vllm.adapters import Adapter
from agent.vllm.breaker import Breaker
from agent.vllm.proofs import Proofs
from agent.vllm.wire import Server

_counting = threading.Lock()


class Replica:
    """`ask` first, then `prove` and `unload`, under its `lock`; any of them raises EngineError if the server is away."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.breaker = Breaker()
        self.base = ""
        """The name of the base model there."""
        self.has: set[str] = set()
        """Names that it listed, or was given."""
        self.proved: set[str] = set()
        """Adapters that are loaded there and passed the canary; the base under an empty name."""
        self.refused: dict[str, EngineError] = {}
        """Why not: Rejected stays until the server is started anew, others are tried again."""
        self.started = 0.0
        """When its process began."""
        self.looks = self.again = 0
        self.problem: EngineError | None = Unreachable(f"{server.url} was not looked at yet.")
        self.in_flight: Counter[str] = Counter()
        self.lock = threading.Lock()

    @contextmanager
    def answering(self, name: str) -> Iterator[None]:
        """One more turn on that adapter while the block runs."""
        with _counting:
            self.in_flight[name] += 1
        try:
            yield
        finally:
            with _counting:
                self.in_flight[name] -= 1
                self.in_flight += Counter()  # without those at zero, since versions come and go

    def table(self) -> dict[str, Any]:
        """For status: {"url", "state": up, down, resting or refusing, "base", "adapters", "in_flight", "problem"}."""
        problem, refused = self.problem, self.refused
        state = "down" if problem else "resting" if self.breaker.open else "refusing" if refused else "up"
        with _counting:
            in_flight = dict(self.in_flight)
        return {"url": self.server.url, "state": state, "base": self.base, "adapters": sorted(filter(None, list(self.proved))),
                "in_flight": in_flight, "problem": "; ".join(map(str, [*filter(None, [problem]), *refused.values()]))}

    def ask(self) -> None:
        """Ask what it has. What was proved or refused in an earlier life of the server is forgotten."""
        listed = self.server.models()
        names = {model.name for model in listed}
        if self.problem or not self.has <= names:  # it may have been started anew, with other flags
            started = self.server.started()
            if not started or started != self.started:
                self.proved.clear()
                self.refused = {}
            self.started = started
        self.base = next((model.name for model in listed if not model.parent), "")
        self.has = names
        self.proved &= names | {""}

    def prove(self, adapter: Adapter, path: str, proofs: Proofs) -> None:
        """Have it answer for an adapter, whose folder is `path` there; if it does not, `refused` says why."""
        name = adapter.name
        if name in self.proved or isinstance(self.refused.get(name), Rejected):
            return
        try:
            if adapter.folder and name not in self.has:
                self.server.load(name, path)
                self.has.add(name)
            elif name in proofs.of(self.server.url, self.started):
                self.proved.add(name)
                return
            canary.judge(self.server, name or self.base, adapter.probes)
            self.proved.add(name)
            self.refused.pop(name, None)
            proofs.add(self.server.url, self.started, name)
        except Unreachable:
            raise  # nor does it answer for any other
        except EngineError as error:  # what the others were proved for stands
            self.refused[name] = error

    def prove_again(self, wanted: Mapping[str, Adapter], proofs: Proofs) -> None:
        """One of the proved, in turns; if it fails then all of them, since values that are not finite poison a whole server."""
        names = sorted(self.proved & wanted.keys())
        self.again += 1
        if names and not self._holds(wanted[names[self.again % len(names)]]):
            proofs.forget(self.server.url)
            for name in set(names) & self.proved:
                self._holds(wanted[name])

    def unload(self, names: Set[str]) -> None:
        """Those that it has and no turn runs on."""
        for name in [name for name in names & self.has if not self.in_flight[name]]:
            self.proved.discard(name)
            try:
                self.server.unload(name)
                self.has.discard(name)
            except Unreachable:
                raise
            except EngineError:
                pass  # tried again at the next look

    def _holds(self, adapter: Adapter) -> bool:
        """Whether it still answers as it did, by one probe, or by all if not by one; one that is busy is left as it is."""
        for probes in (adapter.probes[:1], adapter.probes):
            try:
                canary.judge(self.server, adapter.name or self.base, probes)
                return True
            except Rejected as error:
                failed = error
            except Unreachable:
                raise
            except EngineError:
                return True
        self.proved.discard(adapter.name)
        self.refused[adapter.name] = Rejected(f"{self.server.url} answered well for {adapter.name or 'the base'} and no longer "
                                              f"does; restart that server ({failed})")
        return False
