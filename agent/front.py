"""One agent in front of several domains: which of them a message belongs to, and which one a session is with.

Knows routers, red flags and how sessions are named; what is said in a domain is its agent's. A conversation is one session
in each domain that took part in it, `SESSION-DOMAIN`.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing, nullcontext
from pathlib import Path
from typing import Any, Self

from agent import slots, teaching
from agent.agent import Agent
from agent.dialogue import State
from agent.domain import shipped
from agent.errors import DataError, SettingsError
from agent.line import Line
from agent.signs import tidy, unreadable
from agent.types import Done, Event

STAY = 0.03  # a message that the current domain understands almost as well as the best one stays there


class Front:
    """Several agents held as one: the same `stream`, `ask`, `rate` and so on; each message goes to the domain that it is about.

    `Turn.domain` names the one that answered. A session goes on by the id that the app gave, or by any `turn.session`, which
    is that id with the domain's name behind it; so an app's own ids had better not end in `-finance` and the like.
    """

    def __init__(self, agents: Mapping[str, Agent]) -> None:
        """`agents`: by domain, those on one database."""
        self.agents = dict(agents)
        self.line = Line()

    @classmethod
    def load(cls, names: Sequence[str | Path] | None = None, **settings: Any) -> Self:
        """Load domains by name or folder, all that are shipped where `names` is None; `settings`: all that `Agent.load` takes.

        Raises RetuneError with the next step; what was loaded before is closed again.
        """
        agents: dict[str, Agent] = {}
        try:
            for name in shipped() if names is None else names:
                agent = Agent.load(name, **settings)
                agents[agent.domain.name] = agent
            if not agents:
                raise SettingsError("A front needs a domain; name one, or none for all that are shipped.")
        except BaseException:
            for agent in agents.values():
                agent.close()
            raise
        return cls(agents)

    async def stream(self, text: str, session: str | None = None, author: str = "",
                     history: Sequence[tuple[str, str]] = (), max_tokens: int | None = None) -> AsyncIterator[Event]:
        """One turn as events of the domain that answers; all else as `Agent.stream`.

        A session that was begun with one domain's agent under a name of its own stays with that domain.
        """
        session, done = session or uuid.uuid4().hex, None
        async with self.line.place(session):
            base, settled = await asyncio.to_thread(self._whose, session)
            async with self.line.place(base) if base != session else nullcontext():
                name = settled or await asyncio.to_thread(self._choose, text, base)
                own = session if settled else f"{base}-{name}"
                async with aclosing(self.agents[name].stream(text, own, author, history, max_tokens)) as events:
                    async for event in events:
                        if isinstance(event, Done):
                            done = event
                        else:
                            yield event
        assert done, "a turn ends with Done or raises"
        yield done

    async def ask(self, text: str, session: str | None = None, author: str = "",
                  history: Sequence[tuple[str, str]] = ()) -> Done:
        """The whole turn at once; all else as `stream`."""
        async with aclosing(self.stream(text, session, author, history)) as events:
            async for event in events:
                if isinstance(event, Done):
                    return event
        raise AssertionError("a turn ends with Done or raises")

    def ask_sync(self, text: str, session: str | None = None, author: str = "",
                 history: Sequence[tuple[str, str]] = ()) -> Done:
        """`ask` for code without an event loop; from within one it raises RuntimeError."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return asyncio.run(self.ask(text, session, author, history))
        raise RuntimeError("An event loop runs here, as in a notebook or an async function: use `await agent.ask(...)`.")

    def of(self, turn_id: str) -> Agent:
        """The agent whose turn `turn_id` is; DataError where it is none of theirs."""
        turn = teaching.turn_of(self._first.store, turn_id)
        if turn["domain"] not in self.agents:
            raise DataError(f"Turn {turn_id!r} belongs to the domain {turn['domain']!r}, which is not loaded here; "
                            f"load it beside {', '.join(self.agents)}.")
        return self.agents[turn["domain"]]

    def rate(self, turn_id: str, good: bool, author: str = "", comment: str | None = None) -> None:
        """`Agent.rate` of the turn's domain."""
        self.of(turn_id).rate(turn_id, good, author, comment)

    def correct(self, turn_id: str, answer: str, author: str = "") -> None:
        """`Agent.correct` of the turn's domain."""
        self.of(turn_id).correct(turn_id, answer, author)

    def feedback(self, turn_id: str, kind: str, author: str, value: str | None = None) -> None:
        """`Agent.feedback` of the turn's domain."""
        self.of(turn_id).feedback(turn_id, kind, author, value)

    def sessions(self, limit: int = 50) -> list[dict[str, Any]]:
        """At most `limit`, of all domains, as `Agent.sessions`: one for each domain that took part in a conversation."""
        found = [row for agent in self.agents.values() for row in agent.sessions(limit)]
        return sorted(found, key=lambda row: row["updated"], reverse=True)[:limit]

    async def arate(self, turn_id: str, good: bool, author: str = "", comment: str | None = None) -> None:
        """`rate` in a thread."""
        await asyncio.to_thread(self.rate, turn_id, good, author, comment)

    async def acorrect(self, turn_id: str, answer: str, author: str = "") -> None:
        """`correct` in a thread."""
        await asyncio.to_thread(self.correct, turn_id, answer, author)

    async def asessions(self, limit: int = 50) -> list[dict[str, Any]]:
        """`sessions` in a thread."""
        return await asyncio.to_thread(self.sessions, limit)

    def close(self) -> None:
        """Close every agent."""
        for agent in self.agents.values():
            agent.close()

    def pick(self, text: str, session: str, current: str | None = None) -> str:
        """A domain's name: a red flag decides, then an open question, then the surest router; else the current or first one.

        `text`: the message; `session`: the conversation's id, without a domain's name; `current`: the domain that answered
        last. Blocks for some milliseconds a domain.
        """
        text = tidy(text)
        for name, agent in self.agents.items():
            if agent.flags and agent.flags.check(text):
                return name
        if current and self._is_open(current, session):
            return current
        if current and slots.is_follow_up(text):
            return current
        scores = {name: self._score(agent, text) for name, agent in self.agents.items()}
        best = max(scores, key=lambda name: scores[name])
        if current and (scores[best] == 0 or scores[current] >= scores[best] - STAY):
            return current
        return best

    @property
    def _first(self) -> Agent:
        return next(iter(self.agents.values()))

    def _whose(self, session: str) -> tuple[str, str]:
        """(id of the conversation, its domain if it is that one's alone), as the store knows it."""
        found = next(iter(self._first.store.sessions(id=session)), None)
        if not found or self._kept(session):
            return session, ""
        domain = found["domain"]
        if domain not in self.agents:
            raise DataError(f"Session {session!r} belongs to the domain {domain!r}, which is not loaded here; "
                            f"load it beside {', '.join(self.agents)}, or start another session.")
        base = session.removesuffix(f"-{domain}")
        return base, domain if base == session else ""

    def _kept(self, base: str) -> list[dict[str, Any]]:
        return [row for name, agent in self.agents.items() for row in agent.store.sessions(id=f"{base}-{name}")]

    def _choose(self, text: str, base: str) -> str:
        """The domain that answers, after the one that answered last, whichever process that was in."""
        kept = self._kept(base)
        current = max(kept, key=lambda row: row["updated"])["domain"] if kept else None
        if unreadable(text, self._first.settings.max_message):
            return current or self._first.domain.name
        return self.pick(text, base, current)

    def _score(self, agent: Agent, text: str) -> float:
        """0 to 1: how surely the message is one of the domain's own; 0 if it is out of its scope."""
        route = agent.serving.router.route([text])[0]
        return route.confidence * (1 - route.oos) if route.intent else 0.0

    def _is_open(self, name: str, session: str) -> bool:
        agent = self.agents[name]
        state = State.of(agent.store.session(f"{session}-{name}", name)["state"])
        return bool(state.asking or state.confirming or state.options)
