"""What `model` may name: a domain, one of its bundles, or `retune`, which is all domains behind one name.

A bundle that is not in service is loaded when it is first asked for, in a thread, one at a time; the last few stay in memory.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from agent.agent import Agent
from agent.errors import BundleError
from agent.front import Front
from agent.registry import Registry
from agent.serving import Bases, Serving
from agent.surfaces.http.errors import Refused, log

ALL = "retune"
KEPT = 2


class Catalogue:
    """`find(model)` gives what answers. Any thread may ask."""

    def __init__(self, agents: Mapping[str, Agent], load: Callable[[Agent, str], Serving] | None = None,
                 kept: int = KEPT) -> None:
        """`load`: what loads a bundle of an agent's domain by its version, where it is not the usual."""
        self.agents, self.front = dict(agents), Front(agents)
        self.load, self.kept = load or load_beside, kept
        self._loaded: OrderedDict[str, Agent] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, model: str) -> Agent | Front:
        """What answers under this name; Refused (404) says which names there are. May block while a bundle is loaded."""
        name, _, version = model.partition("@")
        if model == ALL:
            return self.front
        agent = self.agents.get(name)
        if agent is None or not (version.isdecimal() and version.isascii() if "@" in model else True):
            raise self._unknown(model)
        if "@" not in model or agent.serving.bundle.name == model:
            return agent
        with self._lock:
            return self._pinned(agent, model, version)

    def _pinned(self, agent: Agent, model: str, version: str) -> Agent:
        if model in self._loaded:
            self._loaded.move_to_end(model)
            return self._loaded[model]
        if model not in {each.name for each in Registry(agent.domain, agent.settings.home).versions()}:
            raise self._unknown(model)
        try:
            serving = self.load(agent, version)
        except BundleError as error:
            log.warning("%s", error)
            raise Refused(409, f"{model} is there but cannot serve; whoever runs this server finds the reason in its log.",
                          "model") from error
        pinned = replace(agent, serving=serving, trial=None, follower=None)
        pinned.line, pinned.observers = agent.line, agent.observers  # one order, and one who looks on, whatever bundle answers
        self._loaded[model] = pinned
        while len(self._loaded) > self.kept:  # a turn that it answers keeps it until it ends
            self._loaded.popitem(last=False)
        return pinned

    def table(self) -> list[dict[str, Any]]:
        """Every name as OpenAI lists models: the domains, `retune`, the bundles."""
        rows = [row(name, "retune", agent.serving.bundle.name) for name, agent in self.agents.items()]
        rows.append(row(ALL, "retune", None))
        for agent in self.agents.values():
            rows += [row(each.name, agent.domain.name, each.name, each.manifest.get("made"))
                     for each in Registry(agent.domain, agent.settings.home).versions()]
        return rows

    def _unknown(self, model: str) -> Refused:
        return Refused(404, f"There is no model {model!r}; use {', '.join(self.agents)}, {ALL}, or a bundle that GET "
                       "/v1/models lists.", "model", "model_not_found")


def row(id: str, owner: str, bundle: str | None, made: Any = None) -> dict[str, Any]:
    """One model of a list; `made` is ISO text."""
    try:
        created = int(datetime.fromisoformat(str(made)).timestamp()) if made else 0
    except ValueError:
        created = 0
    return {"id": id, "object": "model", "created": created, "owned_by": owner, "bundle": bundle}


def load_beside(agent: Agent, version: str) -> Serving:
    """Load another bundle of the agent's domain with the bases that are in memory."""
    if agent.follower:
        return agent.follower.load(version)
    return Serving.load(agent.domain, agent.settings, Bases.ensure(agent.settings), version, index=agent.serving.index)


def now() -> int:
    """Seconds since 1970, as OpenAI tells times."""
    return int(datetime.now(UTC).timestamp())
