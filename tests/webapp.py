"""Apps over HTTP on agents that need no model: a router of words, one article, a generator that can be held in mid-answer."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import httpx2
import uvicorn
from articles import Articles

from agent import redflags
from agent.agent import Agent
from agent.domain import Domain
from agent.errors import EngineError
from agent.redactors import Redactors
from agent.registry import Bundle
from agent.serving import Serving
from agent.settings import Settings
from agent.store import Store
from agent.types import Made, Message, Passage, Route

ARTICLE = Passage("returns#1", "Returns", "How long", "You have 30 days to return an item.", "Returns policy, section 2",
                  frozenset({"return_policy"}))
SAID = "You have 30 days. Keep the box."
WORDS = {"person": "talk_to_person", "loan": "loan_payment", "order": "order_status", "hello": "greeting", "weather": None}
ASK = {"model": "customer_service", "messages": [{"role": "user", "content": "How long may I keep it?"}]}


class Typist:
    """Writes one answer, a word at a time; while `held` is set it waits after so many words. Counts whom it writes for."""

    def __init__(self, answer: str = SAID, hold_after: int = 5) -> None:
        self.answer, self.hold_after = answer, hold_after
        self.held, self.fails, self.fails_after = False, False, 5
        self.at_once = self.most = self.calls = 0
        self.seen: list[Sequence[Message]] = []

    async def stream(self, messages: Sequence[Message], max_tokens: int, *, session: str = "",
                     made: Made | None = None) -> AsyncIterator[str]:
        """Words; an EngineError after some of them while `fails` is set."""
        self.seen.append(messages)
        self.calls += 1
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        try:
            for number, word in enumerate(self.answer.split(" ")[:max_tokens]):
                while self.held and number >= self.hold_after:
                    await asyncio.sleep(0.005)
                if self.fails and number >= self.fails_after:
                    raise EngineError("http://10.0.0.7:8000 broke off.")
                if made is not None:
                    made.engine, made.prompt_tokens, made.tokens = "typist", 12, number + 1
                yield f" {word}" if number else word
                await asyncio.sleep(0)
        finally:
            self.at_once -= 1


class Routes:
    """A router that goes by the first word it knows."""

    def __init__(self, words: dict[str, str | None], other: str, known: set[str]) -> None:
        self.words = {word: intent for word, intent in words.items() if intent is None or intent in known}
        self.other = other

    def route(self, texts: Sequence[str]) -> list[Route]:
        """The same for the same text; what is none of its words it takes for its own, but not surely."""
        return [self._one(text.lower()) for text in texts]

    def _one(self, text: str) -> Route:
        found = [word for word in self.words if word in text]
        intent = self.words[found[0]] if found else self.other
        if intent is None:
            return Route(None, 0.9, (("thanks", 0.05),), 0.9)
        sure = 0.95 if found else 0.9
        return Route(intent, sure, ((intent, sure), ("thanks", 0.02)), 0.02)


OTHERS = {"customer_service": "return_policy", "finance": "loan_basics", "medical": "greeting"}


@cache
def shipped(name: str) -> Domain:
    """A shipped domain, read once."""
    return Domain.load(name)


def agent_of(settings: Settings, generator: Any, domain: str = "customer_service") -> Agent:
    """An agent of a shipped domain; its dialogue, red flags, guard, tools, registry and store are real."""
    loaded = shipped(domain)
    store = Store(settings.database_url)
    store.open()
    router = Routes(WORDS, OTHERS[domain], set(loaded.intents))
    serving = Serving(Bundle(loaded.name, 1, loaded.models, {"files": {}}), router, generator, Articles([ARTICLE]))
    flags = redflags.load(loaded.folder / "redflags.toml") if (loaded.folder / "redflags.toml").is_file() else None
    return Agent(loaded, settings, serving, store, flags, {}, lambda: datetime.now(UTC), Redactors(),
                 settings.home / "tools" / loaded.name)


def closing_all(agents: Sequence[Agent]) -> None:
    """Release every store."""
    for agent in agents:
        agent.close()


def client(app: Any, secret: str = "", **more: Any) -> httpx2.AsyncClient:
    """An in-process client, as from this machine."""
    headers = {"Authorization": f"Bearer {secret}"} if secret else {}
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://127.0.0.1:8080", headers=headers, **more)


class Call:
    """`call("GET", "/v1/models")` and so on, without an event loop of the test's own."""

    def __init__(self, app: Any) -> None:
        self.app = app

    def __call__(self, method: str, path: str, body: Any = None, key: str = "", **more: Any) -> httpx2.Response:
        """One call; `body` as JSON."""
        async def once() -> httpx2.Response:
            async with client(self.app, key) as at:
                return await at.request(method, path, **({"json": body} if body is not None else {}), **more)

        return asyncio.run(once())

    def ask(self, text: str, key: str = "", session: str = "", model: str = "customer_service", **more: Any) -> dict[str, Any]:
        """A turn that must succeed, as a table."""
        body = {"model": model, "messages": [{"role": "user", "content": text}], **more}
        came = self("POST", "/v1/chat/completions", body, key, headers={"X-Session-Id": session} if session else {})
        assert came.status_code == 200, came.text
        return came.json()


@contextmanager
def served(app: Any) -> Iterator[str]:
    """The app on a port of its own, in a thread; gives its URL."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", lifespan="on", ws="none"))
    server.capture_signals = no_signals  # type: ignore[method-assign]
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until(lambda: server.started and server.servers)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive(), "the server did not end"


@contextmanager
def no_signals() -> Iterator[None]:
    """A server in a thread hears none."""
    yield


def until(true: Callable[[], Any], seconds: float = 20) -> None:
    """Wait for what another thread does."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.01)


def fresh_home(tmp: Path) -> Settings:
    """Settings of a home without models."""
    return Settings.load(home=tmp)
