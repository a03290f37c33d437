"""An agent: one domain with what serves it. The turn itself is `agent.turn`."""

import asyncio
import uuid
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Self

from agent import paths, redflags, slots, teaching
from agent.domain import Domain
from agent.follow import Follower, memory_for
from agent.models import Step
from agent.redact import Redactor
from agent.serving import Bases, Serving, Trial
from agent.settings import Settings
from agent.shadow import Shadow
from agent.store import Store
from agent.turn import RunningTurn
from agent.types import Done, Event


@dataclass
class Agent:
    """One domain's agent. Everything that a person is told comes out of `stream`."""

    domain: Domain
    settings: Settings
    serving: Serving
    store: Store
    flags: redflags.RedFlags | None
    tables: Mapping[str, slots.NameTable]
    now: Callable[[], datetime]
    redactors: dict[str, Redactor]
    tool_state: Path
    """Where the tools keep their databases."""
    trial: Trial | None = None
    """The bundle that some sessions get, or that watches them."""
    follower: Follower | None = None
    """What keeps `serving` and `trial` as the registry says; None: they stay as they are."""
    notices: deque[str] = field(default_factory=lambda: deque(maxlen=50))
    """What the follower did or could not do, a sentence each, oldest first."""
    on_notice: Callable[[str], None] = lambda said: None
    shadow: Shadow | None = None

    @classmethod
    def load(cls, domain: str | Path, *, generator: Any | None = None, version: str = "champion",
             now: Callable[[], datetime] = lambda: datetime.now(UTC), watch: Callable[[Step], None] = lambda step: None,
             follow: bool = False, on_notice: Callable[[str], None] = lambda said: None, **settings: Any) -> Self:
        """Load a domain by name or folder with its champion bundle; fetches base models at the first start.

        `generator` replaces the local one, `settings` are those of Settings. With `follow` the agent goes over to what is
        promoted, rolled back or put on trial later, by any process, unless a `version` was asked for; `on_notice` hears of
        it. Raises RetuneError with the next step.
        """
        known = Settings.load(**settings)
        loaded = Domain.load(domain)
        store = Store(known.database_url)
        store.open()
        bases = Bases.ensure(known, watch)
        serving = Serving.load(loaded, known, bases, version, generator)
        flags_file = loaded.folder / "redflags.toml"
        kinds = {kind for intent in loaded.intents.values() for _, kind in intent.slots if kind.startswith("name:")}
        tables = {kind.partition(":")[2]: slots.NameTable.load(loaded.folder / "data" / f"{kind.partition(':')[2]}.csv")
                  for kind in kinds}
        agent = cls(loaded, known, serving, store, redflags.load(flags_file) if flags_file.is_file() else None,
                    tables, now, {}, paths.tool_state(known.home, loaded.name), on_notice=on_notice)
        if follow and version == "champion":
            beside = partial(Serving.load, loaded, known, bases, generator=generator, index=serving.index)
            agent.follower = Follower(agent, beside, room=memory_for(bases))
            agent.follower.start()
        return agent

    async def stream(self, text: str, session: str | None = None, author: str = "") -> AsyncIterator[Event]:
        """One turn as events: Routed, perhaps ToolCalled, Deltas, Done. Done comes after the turn is on disk.

        `author`: who writes, where that is known; the session keeps the first name that it hears.
        """
        session = session or uuid.uuid4().hex
        serving = self.serving_for(session)
        with serving.turns.one():
            async with aclosing(RunningTurn(self, serving, text, session, author).events()) as events:
                async for event in events:
                    if isinstance(event, Done):
                        self._shadow(event)
                    yield event

    async def ask(self, text: str, session: str | None = None, author: str = "") -> Done:
        """The whole turn at once."""
        async with aclosing(self.stream(text, session, author)) as events:
            async for event in events:
                if isinstance(event, Done):
                    return event
        raise AssertionError("a turn ends with Done or raises")

    def ask_sync(self, text: str, session: str | None = None, author: str = "") -> Done:
        """`ask` for code without an event loop."""
        return asyncio.run(self.ask(text, session, author))

    def feedback(self, turn_id: str, kind: str, author: str, value: str | None = None) -> None:
        """Keep what `author` says about a turn of this domain: a kind of `agent.teaching.KINDS`, its value redacted.

        Again is nothing, and the opposite takes the first back. DataError for a turn or an intent that is not there.
        """
        teaching.teach(self.store, turn_id, kind, author, value, domain=self.domain.name, intents=self.domain.intents,
                       redactors=self.redactors)

    def unteach(self, turn_id: str, kind: str, author: str) -> bool:
        """Take back what `author` said by this kind, or with the kind `handoff` what they wished by `hand_off`.

        False where there is nothing to take back. DataError as `feedback`.
        """
        teaching.turn_of(self.store, turn_id, self.domain.name)
        return self.store.retract(turn_id, author, kind)

    def hand_off(self, turn_id: str, author: str, reason: str = "") -> None:
        """Let the conversation wait for a person, as the agent's own hand-offs do; `reason` is kept redacted.

        Again is nothing. DataError for a turn that is not there, or whose hand-off was answered.
        """
        teaching.hand_off(self.store, turn_id, author, reason, domain=self.domain.name, redactors=self.redactors)

    def serving_for(self, session: str) -> Serving:
        """The champion, or the canary for the sessions that fall to it."""
        trial = self.trial
        return trial.serving if trial and not trial.shadow and trial.takes(session) else self.serving

    def notice(self, said: str) -> None:
        """Keep a sentence about what serves, and tell whoever listens."""
        self.notices.append(said)
        self.on_notice(said)

    def _shadow(self, done: Done) -> None:
        trial = self.trial
        if trial and trial.shadow and trial.takes(done.turn.session):
            self.shadow = self.shadow or Shadow(paths.shadow(self.settings.home, self.domain.name))
            self.shadow.watch(trial.serving, done.turn)

    def close(self) -> None:
        """Stop following, write what is still to be written, release the store."""
        if self.follower:
            self.follower.stop()
        if self.shadow:
            self.shadow.close()
        self.store.close()
