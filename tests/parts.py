"""An agent of fake parts, which is there at once: its router is told what to think, its generator what to say."""

from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from agent.agent import Agent
from agent.domain import Domain
from agent.generators.scripted import ScriptedGenerator
from agent.registry import Bundle
from agent.serving import Serving
from agent.settings import Settings
from agent.store import Store
from agent.types import Made, Message, Passage, Route


class Routes:
    """As sure as can be of the intent that a message names; of no intent where it names none."""

    def __init__(self, domain: Domain) -> None:
        self.domain = domain

    def route(self, texts: list[str]) -> list[Route]:
        found = [next((name for name in self.domain.intents if name in text), None) for text in texts]
        return [Route(name, 0.95, ((name, 0.95),) if name else (), 0.05 if name else 0.95) for name in found]


class Found:
    """The first articles, whatever is looked for."""

    quick = True

    def __init__(self, domain: Domain) -> None:
        self.passages = domain.passages

    def ahead(self, text: str) -> Future[None]:
        done: Future[None] = Future()
        done.set_result(None)
        return done

    def search(self, text: str, count: int, vector: None = None) -> list[Passage]:
        return list(self.passages[:count])

    def sure(self, text: str, vector: None = None) -> None:
        return None


_domain = cache(Domain.load)


def agent(home: Path, *answers: str | Exception, name: str | Path = "customer_service", flags: Any = None,
          tools: Mapping[str, Any] | None = None, **settings: Any) -> Agent:
    """An agent of the domain on a store in `home`; `answers` are the generator's."""
    domain, known = _domain(name), replace(Settings.load(home=home), **settings)
    store = Store(known.database_url)
    store.open()
    bundle = Bundle(domain.name, 1, home, {"files": {}})
    serving = Serving(bundle, Routes(domain), ScriptedGenerator(*answers), Found(domain))
    return Agent(domain, known, serving, store, flags, {}, lambda: datetime.now(UTC), {}, home / "tools", tools=tools or {})


class Counting(ScriptedGenerator):
    """Says its answer, that it took so many tokens, and which engine wrote it."""

    def __init__(self, answer: str, prompt_tokens: int, tokens: int, engine: str = "scripted") -> None:
        super().__init__(answer)
        self.counts, self.engine = (prompt_tokens, tokens), engine

    async def stream(self, messages: Sequence[Message], max_tokens: int, *, session: str = "",
                     made: Made | None = None) -> AsyncIterator[str]:
        async for piece in super().stream(messages, max_tokens, session=session, made=made):
            yield piece
        if made is not None:
            made.engine, (made.prompt_tokens, made.tokens) = self.engine, self.counts


def with_generator(serving: Serving, *answers: str | Exception) -> Serving:
    """The serving with other words to say."""
    return replace(serving, generator=ScriptedGenerator(*answers))
