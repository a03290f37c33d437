"""An agent: one domain with what serves it. The turn itself is `agent.turn`."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from agent import paths, redflags, slots, teaching
from agent.domain import Domain
from agent.models import Step
from agent.redact import Redactor
from agent.serving import Bases, Serving
from agent.settings import Settings
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

    @classmethod
    def load(cls, domain: str | Path, *, generator: Any | None = None, version: str = "champion",
             now: Callable[[], datetime] = lambda: datetime.now(UTC), watch: Callable[[Step], None] = lambda step: None,
             **settings: Any) -> Self:
        """Load a domain by name or folder with its champion bundle; fetches base models at the first start.

        `generator` replaces the local one, `settings` are those of Settings. Raises RetuneError with the next step.
        """
        known = Settings.load(**settings)
        loaded = Domain.load(domain)
        store = Store(known.database_url)
        store.open()
        serving = Serving.load(loaded, known, Bases.ensure(known, watch), version, generator)
        flags_file = loaded.folder / "redflags.toml"
        kinds = {kind for intent in loaded.intents.values() for _, kind in intent.slots if kind.startswith("name:")}
        tables = {kind.partition(":")[2]: slots.NameTable.load(loaded.folder / "data" / f"{kind.partition(':')[2]}.csv")
                  for kind in kinds}
        return cls(loaded, known, serving, store, redflags.load(flags_file) if flags_file.is_file() else None,
                   tables, now, {}, paths.tool_state(known.home, loaded.name))

    async def stream(self, text: str, session: str | None = None, author: str = "") -> AsyncIterator[Event]:
        """One turn as events: Routed, perhaps ToolCalled, Deltas, Done. Done comes after the turn is on disk.

        `author`: who writes, where that is known; the session keeps the first name that it hears.
        """
        run = RunningTurn(self, self.serving, text, session or uuid.uuid4().hex, author)
        async for event in run.events():
            yield event

    async def ask(self, text: str, session: str | None = None, author: str = "") -> Done:
        """The whole turn at once."""
        async for event in self.stream(text, session, author):
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

    def close(self) -> None:
        """Release the store."""
        self.store.close()
