"""Agents that are there at once and answer at once: a router that is told what to think, one article, words in no time."""

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from articles import Articles

from agent.agent import Agent
from agent.domain import Domain
from agent.generators.scripted import ScriptedGenerator
from agent.redactors import Redactors
from agent.registry import Bundle
from agent.serving import Serving
from agent.settings import Settings
from agent.store import Store
from agent.toolbox import install
from agent.types import Route

load = cache(Domain.load)
CLOCK = datetime(2026, 11, 21, 10, 0, tzinfo=UTC)


class Routes:
    """Sure of the intent that a message names, else of the one it was made with; out of scope where that is None."""

    def __init__(self, domain: Domain, usual: str | None) -> None:
        self.domain, self.usual = domain, usual

    def route(self, texts: list[str]) -> list[Route]:
        found = [next((name for name in self.domain.intents if name in text), self.usual) for text in texts]
        return [Route(name, 0.95, ((name, 0.95),) if name else (), 0.05 if name else 0.95) for name in found]


def agent(home: Path, *answers: str | Exception, domain: str = "customer_service", usual: str | None = "return_policy",
          generator: Any = None, tools: Mapping[str, Any] | None = None, retriever: Any = None, flags: Any = None) -> Agent:
    """An agent on the database of `home` whose generator says `answers`, unless another `generator` is given."""
    loaded = load(domain)
    settings = Settings.load(home=home)
    store = Store(settings.database_url)
    store.open()
    serving = Serving(Bundle(domain, 1, home, {"files": {}}), Routes(loaded, usual), generator or ScriptedGenerator(*answers),
                      Articles(loaded.passages[:1]))
    return Agent(install(loaded, tools or {}), settings, serving, store, flags, {}, lambda: CLOCK, Redactors(),
                 home / "tools", tools=dict(tools or {}), retriever=retriever)
