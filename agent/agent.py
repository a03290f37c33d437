"""An agent: one domain with what serves it. The turn itself is `agent.turn`."""

import asyncio
import uuid
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from agent import paths, redflags, slots, teaching, toolbox
from agent.domain import Domain
from agent.errors import SettingsError
from agent.follow import Follower, memory_for
from agent.line import Line
from agent.models import Step
from agent.redactors import Redactors
from agent.serving import Bases, Serving, Trial
from agent.settings import Settings
from agent.shadow import Shadow
from agent.store import Store
from agent.turn import RunningTurn
from agent.types import Done, Event, Turn

if TYPE_CHECKING:
    from langchain_core.retrievers import BaseRetriever
    from langchain_core.tools import BaseTool


@dataclass
class Agent:
    """One domain's agent: `Agent.load("finance")`. Everything that a person is told comes out of `stream`.

    Any thread and any event loop may call it, and any number of sessions talk at once. `observers` hear of each turn that is
    on disk: functions of the Turn and of why it failed (a sentence, or None), called on the event loop, so they must not wait.
    Errors are RetuneErrors whose sentence says the next step. `close` it at the end, or use `contextlib.closing`.
    """

    domain: Domain
    settings: Settings
    serving: Serving
    store: Store
    flags: redflags.RedFlags | None
    tables: Mapping[str, slots.NameTable]
    now: Callable[[], datetime]
    redactors: Redactors
    """Of the sessions that this process holds; private values live here alone."""
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
    tools: Mapping[str, Any] = field(default_factory=dict)
    """LangChain tools by the intent that they answer: an app's, in the place of the domain's, and those of MCP servers."""
    leave: Callable[[], None] = lambda: None
    """Closes the connections to MCP servers."""
    retriever: Any | None = None
    """An app's LangChain retriever, in the place of the domain's articles."""
    observers: list[Callable[[Turn, str | None], None]] = field(default_factory=list, init=False)
    """Called with each turn that is on disk, and why it failed or None; on the event loop, so they must not wait."""
    line: Line = field(default_factory=Line, init=False, repr=False)
    """Keeps the turns of one session in order."""

    def __post_init__(self) -> None:
        if not isinstance(self.redactors, Redactors):
            self.redactors = Redactors(self.redactors)

    @classmethod
    def load(cls, domain: str | Path, *, generator: Any | None = None, tools: Mapping[str, "BaseTool"] | None = None,
             retriever: "BaseRetriever | None" = None, version: str = "champion",
             now: Callable[[], datetime] = lambda: datetime.now(UTC), watch: Callable[[Step], None] = lambda step: None,
             follow: bool = False, on_notice: Callable[[str], None] = lambda said: None, **settings: Any) -> Self:
        """Load a domain by name or folder with its champion bundle; fetches base models at the first start.

        `domain`: a shipped one's name, or a folder. `generator` writes in the place of the local one: a ScriptedGenerator, or
        any LangChain chat model. `tools`: LangChain tools by the intent that each answers in the place of the domain's own; its
        slots are the arguments, what it returns is told as it stands, and one with metadata {"changes": True} is asked about
        first. `retriever`: a LangChain retriever in the place of the domain's articles; it is asked without private values.
        `version`: a bundle's number or alias. `now`: the clock that dates are read by, in UTC. `watch` hears of the steps of a
        first start. With `follow` the agent goes over to what is promoted, rolled back or put on trial later, by any process,
        unless a `version` was asked for; `on_notice` hears a sentence about it. `settings` are those of
        `agent.settings.Settings`, such as `home`, `threads` or `max_new_tokens`. Agents of one process share the models that
        they have in common. Raises RetuneError.
        """
        known = Settings.load(**settings)
        loaded = Domain.load(domain)
        used = toolbox.install(loaded, tools or {})
        if retriever is not None and not hasattr(retriever, "ainvoke"):
            raise SettingsError(f"The retriever is a {type(retriever).__name__}; give a BaseRetriever of langchain_core.")
        if generator is not None and not hasattr(generator, "stream"):
            raise SettingsError(f"The generator is a {type(generator).__name__}; give a ScriptedGenerator or a chat model of "
                                "LangChain's.")
        remote, leave = toolbox.connect(used, known.home)
        if hasattr(generator, "ainvoke"):  # a Runnable has that, a generator of ours does not
            from agent.generators.chat_model import ChatModelGenerator

            generator = ChatModelGenerator(generator)
        store = Store(known.database_url)
        store.open()
        bases = Bases.ensure(known, watch, generator is None)
        serving = Serving.load(loaded, known, bases, version, generator)
        flags_file = loaded.folder / "redflags.toml"
        kinds = {kind for intent in loaded.intents.values() for _, kind in intent.slots if kind.startswith("name:")}
        tables = {kind.partition(":")[2]: slots.NameTable.load(loaded.folder / "data" / f"{kind.partition(':')[2]}.csv")
                  for kind in kinds}
        agent = cls(used, known, serving, store, redflags.load(flags_file) if flags_file.is_file() else None,
                    tables, now, Redactors(), paths.tool_state(known.home, loaded.name), on_notice=on_notice,
                    tools=remote | dict(tools or {}), retriever=retriever, leave=leave)
        if follow and version == "champion":
            beside = partial(Serving.load, loaded, known, bases, generator=generator, index=serving.index)
            agent.follower = Follower(agent, beside, room=memory_for(bases))
            agent.follower.start()
        return agent

    async def stream(self, text: str, session: str | None = None, author: str = "",
                     history: Sequence[tuple[str, str]] = (), max_tokens: int | None = None) -> AsyncIterator[Event]:
        """One turn as events: Routed, perhaps Evidence or ToolCalled, Deltas, Done, which comes when the turn is on disk.

        `text`: at most `max_message` characters; more, or none, is answered with a sentence. `session`: any text; None begins
        a new one, whose id is `turn.session`. Messages of one session that come at once are answered one after the other, in
        the order in which they came; other sessions do not wait. `author`: who writes, where that is known; the session keeps
        the first name that it hears. `history`: (question, reply) pairs, oldest first, that a client without a session says
        were told; they help to understand a follow-up where the session has no turns of its own, and are never logged as
        turns. `max_tokens`: less for the generator to write than the settings allow. Closing the iterator ends the turn,
        which is logged as cancelled.

        Raises EngineError if the generator or retriever failed (the turn is logged with its flag), StoreError if the
        database cannot be written or the session is another domain's.
        """
        session, done = session or uuid.uuid4().hex, None
        with self.redactors.using(session):
            async with self.line.place(session):
                serving = self.serving_for(session)
                turn = RunningTurn(self, serving, text, session, author, history, max_tokens)
                with serving.turns.one(), turn.trace:
                    async with aclosing(turn.events()) as events:
                        async for event in events:
                            if isinstance(event, Done):
                                done = event
                            else:
                                yield event
        assert done, "a turn ends with Done or raises"
        self._shadow(done)
        yield done  # outside its place: whoever hears it may ask again at once

    async def ask(self, text: str, session: str | None = None, author: str = "",
                  history: Sequence[tuple[str, str]] = ()) -> Done:
        """The whole turn at once: `reply` is the answer, `turn` what became of the message; all else as `stream`."""
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

    def rate(self, turn_id: str, good: bool, author: str = "", comment: str | None = None) -> None:
        """Keep whether `author` found the reply of the turn `turn_id` `good`, perhaps with a `comment` in their words.

        On disk when it returns, which takes some milliseconds: on an event loop use `arate`. Rating again replaces the
        author's earlier word. DataError for a turn that is not there or is another domain's.
        """
        said = {"up" if good else "down": None} | ({"comment": comment} if comment and comment.strip() else {})
        teaching.teach_all(self.store, turn_id, said, author, domain=self.domain.name, redactors=self.redactors)

    def correct(self, turn_id: str, answer: str, author: str = "") -> None:
        """Keep `author`'s better `answer` to the turn `turn_id`, redacted, to learn from after review; all else as `rate`."""
        self.feedback(turn_id, "correction", author, answer)

    def sessions(self, limit: int = 50) -> list[dict[str, Any]]:
        """This domain's sessions, the last used first, at most `limit`; those that were laid away are left out.

        Each as {"id", "domain", "author", "title", "archived", "state", "created", "updated", "turns", "first"}: times in
        UTC as ISO text, `turns` a count, `first` the first question without private values.
        """
        return self.store.sessions(self.domain.name, limit)

    async def arate(self, turn_id: str, good: bool, author: str = "", comment: str | None = None) -> None:
        """`rate` in a thread."""
        await asyncio.to_thread(self.rate, turn_id, good, author, comment)

    async def acorrect(self, turn_id: str, answer: str, author: str = "") -> None:
        """`correct` in a thread."""
        await asyncio.to_thread(self.correct, turn_id, answer, author)

    async def asessions(self, limit: int = 50) -> list[dict[str, Any]]:
        """`sessions` in a thread."""
        return await asyncio.to_thread(self.sessions, limit)

    def feedback(self, turn_id: str, kind: str, author: str, value: str | None = None) -> None:
        """Keep what `author` says about the turn `turn_id`, by `kind`, with its `value` where the kind has one, redacted.

        up, down, none_of_these: no value; correction, comment, reply (of a person after a hand-off): their words; intent: its
        name. Again is nothing, and the opposite takes the first back. DataError for a turn or an intent that is not there.
        """
        teaching.teach(self.store, turn_id, kind, author, value, domain=self.domain.name, intents=self.domain.intents,
                       redactors=self.redactors)

    def unteach(self, turn_id: str, kind: str, author: str) -> bool:
        """Take back what `author` said of `turn_id` by this `kind`, or with the kind `handoff` what they wished by `hand_off`.

        False where there is nothing to take back. DataError as `feedback`.
        """
        teaching.turn_of(self.store, turn_id, self.domain.name)
        return self.store.retract(turn_id, author, kind)

    def hand_off(self, turn_id: str, author: str, reason: str = "") -> None:
        """Let the conversation of `turn_id` wait for a person, since `author` wishes so; the `reason` is kept redacted.

        Again is nothing. DataError for a turn that is not there, or whose hand-off was answered.
        """
        teaching.hand_off(self.store, turn_id, author, reason, domain=self.domain.name, redactors=self.redactors)

    def serving_for(self, session: str) -> Serving:
        """What answers this `session`: the champion, or the canary for the sessions that fall to it."""
        trial = self.trial
        return trial.serving if trial and not trial.shadow and trial.takes(session) else self.serving

    def notice(self, said: str) -> None:
        """Keep a sentence, `said`, about what serves, and tell whoever listens."""
        self.notices.append(said)
        self.on_notice(said)

    def observed(self, turn: Turn, error: str | None) -> None:
        """Show a `turn` that is on disk, and its `error` or None, to the observers; one that raises costs no answer."""
        for observer in tuple(self.observers):
            try:
                observer(turn, error)
            except Exception as failure:  # it is an app's code
                self.notice(f"An observer failed ({type(failure).__name__}: {failure}); take it out of `observers` or mend it.")

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
        self.leave()
        self.store.close()
