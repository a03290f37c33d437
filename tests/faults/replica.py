"""A stand-in for `agent.vllm.wire.Server` in memory: it answers, refuses, forgets and breaks as it is told. No sockets.

What an adapter does it reads from the `canary.json` of its folder, as if its weights were there.
"""

import json
import threading
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from agent.errors import Rejected, TooSlow, Unreachable
from agent.types import Message
from agent.vllm.adapters import CANARY, Adapter
from agent.vllm.canary import Probe
from agent.vllm.replies import NotServed, Piece
from agent.vllm.wire import Model

BASE = "smollm2"
ANSWER = [5, 6, 7, 8]


class StandIn:
    """`StandIn("http://a:8000")` has a base and no adapter. What it does wrong is in its fields, changed at any time."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.base = BASE
        self.down = False
        self.refuses: set[str] = set()
        """Names that it does not load."""
        self.slow: set[str] = set()
        """Names whose load runs into a deadline."""
        self.plain: set[str] = set()
        """Names that it answers to without their adapter."""
        self.poisoned = False
        """Whether every value is NaN."""
        self.denies: set[str] = set()
        """Names that it lists and has no answer for."""
        self.pause = 0.0
        """Seconds that a load takes."""
        self.life = 1.0
        self.loaded: dict[str, dict[tuple[int, ...], list[float]]] = {}
        self.asked: list[tuple[str, str]] = []
        """(verb, name) of every call in order."""
        self._lock = threading.Lock()

    def restart(self) -> None:
        """A new life: adapters, and what was wrong in memory, are gone."""
        self.life += 1
        self.poisoned = False
        self.loaded.clear()

    def healthy(self) -> bool:
        """Whether it answers at all."""
        return not self.down

    def started(self) -> float:
        """A number of its own for each life."""
        self._up("started")
        return self.life

    def models(self) -> list[Model]:
        """The base and what is loaded."""
        self._up("models")
        return [Model(self.base, "/base", "", 2048), *(Model(name, f"/{name}", self.base, 2048) for name in list(self.loaded))]

    def load(self, name: str, path: str) -> None:
        """Take an adapter, or not."""
        self._up("load", name)
        time.sleep(self.pause)
        if name in self.slow:
            raise TooSlow(f"{self.url} did not answer in time; look at its load.")
        if name in self.refuses:
            raise Rejected(f"{self.url} cannot load {name} (LoRA rank 64 is greater than max_lora_rank 16.).")
        probes = [Probe(**row) for row in json.loads((Path(path) / CANARY).read_text(encoding="utf-8"))]
        self.loaded[name] = {tuple(probe.ids): probe.base if name in self.plain else probe.tuned for probe in probes}

    def unload(self, name: str) -> None:
        """Forget one."""
        self._up("unload", name)
        self.loaded.pop(name, None)

    def score(self, model: str, ids: Sequence[int], answer: Sequence[int]) -> list[float]:
        """What the probes of the adapter say."""
        self._up("score", model)
        if self.poisoned:
            return [float("nan") for _ in answer]
        if model == self.base:
            return probes("base")[0].base
        if model not in self.loaded:
            raise NotServed(f"{self.url} has no model {model!r}.")
        return self.loaded[model][tuple(ids)]

    async def chat(self, model: str, messages: Sequence[Message], max_tokens: int, deadline: float,
                   structured: dict[str, Any] | None = None) -> AsyncIterator[Piece]:
        """Says which server and which model answers."""
        self._up("chat", model)
        if model in self.denies or (model != self.base and model not in self.loaded):
            raise NotServed(f"{self.url} has no model {model!r}.")
        yield Piece(f"{self.url} ")
        yield Piece(model)
        yield Piece("", "stop", 7, 2)

    def count(self, verb: str, name: str = "") -> int:
        """How often it was asked for that."""
        with self._lock:
            return self.asked.count((verb, name))

    def _up(self, verb: str, name: str = "") -> None:
        with self._lock:
            self.asked.append((verb, name))
        if self.down:
            raise Unreachable(f"No vLLM server answers at {self.url} (down); start one with `retune vllm up`.")


def probes(name: str) -> tuple[Probe, ...]:
    """Two probes whose values are those of `name` alone; of base they are the same for every name."""
    shift = 1 + sum(name.encode()) % 50
    return tuple(Probe([number, 2, 3], ANSWER, [-1.0] * len(ANSWER), [-1.0 - shift * (name != "base")] * len(ANSWER))
                 for number in (1, 2))


def adapter(folder: Path, name: str, base: Any = None) -> Adapter:
    """An adapter that a stand-in can load: its folder holds the canary alone."""
    from dataclasses import asdict

    (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / name / CANARY).write_text(json.dumps([asdict(probe) for probe in probes(name)]), encoding="utf-8")
    return Adapter(name, folder / name, base, 8, probes(name))
