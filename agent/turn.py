"""One running turn, read downwards: redact, red flags, route, dialogue, gather, generate, guard, log, done."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from agent import dialogue, prompt, signals, slots, toolbox, tracing, wishes
from agent.dialogue import Move, State
from agent.documents import look_up
from agent.domain import Intent, asked_as
from agent.durable import finish
from agent.errors import EngineError, RetuneError
from agent.guard import Guard
from agent.sentences import SentenceFeeder
from agent.serving import Serving
from agent.signs import harmless, tidy, unreadable
from agent.types import Delta, Done, Event, Evidence, Made, Passage, Route, Routed, ToolCalled, Turn

if TYPE_CHECKING:
    from agent.agent import Agent

OUT_OF_SCOPE = "That is outside what I can help with here. I can help with questions such as: {examples}"
STATES = {"docs": "answered", "fixed": "answered", "handoff": "handoff", "run": "done", "ask": "asking",
          "confirm": "confirming", "cancelled": "cancelled", "clarify": "clarify", "refuse": "refused"}


class RunningTurn:
    """The state of one running turn; its serving stays the same whatever is swapped meanwhile."""

    def __init__(self, agent: "Agent", serving: Serving, text: str, session: str, author: str = "",
                 claimed: Sequence[tuple[str, str]] = (), max_tokens: int | None = None) -> None:
        """`claimed`: questions and replies that count as said before where the session has no turns of its own."""
        self.agent, self.serving, self.text, self.author, self.claimed = agent, serving, text, author, claimed
        self.longest = min(max_tokens or agent.settings.max_new_tokens, agent.settings.max_new_tokens)
        self.redactor = agent.redactors.of(session)
        self.turn = Turn(id=uuid.uuid4().hex, session=session, domain=agent.domain.name, bundle=serving.bundle.name,
                         question=text, redacted="")
        self.state, self.messages, self.history = State(), [], []
        self.handoff: str | None = None
        self.before: dict[str, Any] | None = None
        self.was_asked = False
        self.wish, self.later = "", []
        """The words of the message that this turn answers, and the wishes that it told beside them."""
        self.started = time.perf_counter()
        self.trace = tracing.Trace(self)

    async def events(self) -> AsyncIterator[Event]:
        """Routed, perhaps Evidence or ToolCalled, Deltas, Done. Done comes after the turn is on disk."""
        agent = self.agent
        # SQLite answers sooner than another thread would begin, and its readers wait for no writer
        saved = self._open() if agent.store.path else await asyncio.to_thread(self._open)
        self.state = State.of(saved["state"])
        error: str | None = "cancelled"
        said: list[str] = []
        restore = self.redactor.restore_stream()
        try:
            async for event in self._answer():
                if isinstance(event, Delta):
                    said.append(event.text)
                    event = Delta(restore.feed(event.text))
                yield event
            if rest := restore.close():
                yield Delta(rest)
            error = None
        except Exception as failure:
            error = str(failure) if isinstance(failure, RetuneError) else f"The turn failed ({type(failure).__name__})."
            self.turn = replace(self.turn, error=type(failure).__name__)
            raise
        finally:  # failed and cancelled turns are logged too, with their flag, before anything else happens
            reply = "".join(said).strip()
            self._mark("total")
            failed = {"state": "error", "flags": (*self.turn.flags, "error"), "error": self.turn.error or "cancelled"}
            self.turn = replace(self.turn, reply=reply, **(failed if error else {}))
            cancelled = await finish(partial(
                agent.store.log, self.turn, self.state.table() if not error else saved["state"], self.messages,
                self.handoff, error, signals.weak(self.before, self.turn, self.was_asked), self.author))
            agent.observed(self.turn, error)
            if cancelled:
                raise cancelled
        yield Done(self.turn, self.redactor.restore(reply))

    def _open(self) -> dict[str, Any]:
        found = self.agent.store.before(self.turn.session, self.agent.domain.name, self.author)
        saved, self.before, open_at = found.session, found.last, State.of(found.session["state"])
        self.was_asked = bool(open_at.asking or open_at.confirming or open_at.options)
        said = found.history if self.before else self.claimed[-2:]
        self.history = [line for pair in said for line in pair]
        if not self.before:  # nothing is known of it but what the app says
            self.history = [self.redactor.redact(tidy(line[:self.agent.settings.max_message])) for line in self.history]
        self.redactor.reserve("\n".join([*self.history, str(saved["state"])]))
        return saved

    async def _answer(self) -> AsyncIterator[Event]:
        agent, domain = self.agent, self.agent.domain
        if problem := unreadable(self.text, agent.settings.max_message):
            self.turn = replace(self.turn, redacted=self.redactor.redact(self.text[:200]), state="refused", flags=("unreadable",))
            yield Delta(problem)
            return
        self.turn = replace(self.turn, redacted=self.redactor.redact(tidy(self.text)))
        self.wish = self.turn.redacted
        self._mark("redact")
        if agent.flags and (flag := agent.flags.check(self.text)):
            self.turn = replace(self.turn, state="escalated", flags=(f"red_flag:{flag.name}",))
            self.handoff = flag.name
            self.state = State()
            yield Delta(flag.message)
            return
        self.vector = self.serving.index.ahead(self.turn.redacted)  # most messages are looked up: while they are routed
        route = await asyncio.to_thread(self._route)
        self._mark("route")
        await toolbox.meet(agent.tools, self.state, route)
        move = dialogue.step(domain, self.state, self.wish, route, self._read, self._changes)
        self._take(move, route)
        yield Routed(self.turn)
        if move.kind == "docs":
            async for event in self._from_articles(move):
                yield event
            if back := dialogue.open_question(domain, self.state) or self._also():
                yield Delta(f"\n\n{back}")
        elif move.kind == "run":
            async for event in self._from_tool(move):
                yield event
        elif move.kind == "refuse":
            examples = "; ".join(f"“{example}”" for example in domain.examples[:3])
            yield Delta(OUT_OF_SCOPE.format(examples=examples))
            if back := dialogue.open_question(domain, self.state):
                yield Delta(f"\n\n{back}")
        else:
            if move.kind == "handoff":
                self.handoff = move.intent
            yield Delta(move.say)
            back = self._taken_up() if move.kind == "cancelled" else self._also() if move.kind == "fixed" else ""
            if back:
                yield Delta(f"\n\n{back}")

    def _take(self, move: Move, route: Route) -> None:
        self.state = move.state
        intent = self.agent.domain.intents.get(move.intent or "")
        self.turn = replace(self.turn, route=route, intent=move.intent, slots=move.slots, state=STATES[move.kind],
                            tool=intent.tool if intent else "", abstained=move.kind in ("refuse", "clarify"))

    def _route(self) -> Route:
        """The message by itself, its first wish if it has several; a follow-up that says little together with what went before."""
        text, before = self.turn.redacted, self.history[-2:-1]
        if not self.was_asked and (told := wishes.several(self.serving.router, text)):
            (self.wish, route), *self.later = told
            return route
        route = self.serving.router.route([text])[0]
        unsure = route.intent is None or route.confidence < dialogue.SURE
        if before and unsure and slots.is_follow_up(text):
            joined = self.serving.router.route([f"{before[0]} {text}"])[0]
            return joined if joined.intent else route
        if unsure and not (self.state.intent or self.state.options):
            if passage := self.serving.index.sure(text, self.vector.result()):
                return self._article(passage, route)
        return route

    def _article(self, passage: Passage, route: Route) -> Route:
        """An article knows the question better than the router does; as it was, if no intent answers from that article."""
        intents = self.agent.domain.intents
        name = next((name for name in sorted(passage.intents) if name in intents and intents[name].answer == "docs"), None)
        return replace(route, intent=name, confidence=1.0, ranking=((name, 1.0), *route.ranking)) if name else route

    def _read(self, text: str, wanted: Any, asked: str | None = None) -> dict[str, Any]:
        return slots.read(text, wanted, tables=self.agent.tables, now=self.agent.now(), asked=asked)

    async def _from_articles(self, move: Move) -> AsyncIterator[Event]:
        question = move.question or self.wish
        leans = slots.is_follow_up(question) and bool(self.history)
        looked_up = asked_as(self.history if leans else (), question)
        if self.agent.retriever:
            found = await look_up(self.agent.retriever, looked_up, prompt.MAX_FACTS, self.redactor.redact)
        else:
            there = looked_up == self.turn.redacted and self.vector.done()
            quick = there and self.serving.index.quick  # sooner done than another thread would begin
            found = self._search(looked_up) if quick else await asyncio.to_thread(self._search, looked_up)
        self.turn = replace(self.turn, passages=tuple(found))
        self._mark("retrieve")
        yield Evidence(self.turn.passages)
        sources = [prompt.fact(passage.title, passage.heading, passage.text) for passage in found]
        async for event in self._generate(sources, question, self.history[-2:] if leans else []):
            yield event

    def _search(self, looked_up: str) -> list[Passage]:
        vector = self.vector.result() if looked_up == self.turn.redacted else None
        return self.serving.index.search(looked_up, prompt.MAX_FACTS, vector=vector)

    async def _generate(self, sources: list[str], question: str, history: list[str]) -> AsyncIterator[Event]:
        """The generator's sentences, each through the guard; then the disclosure where the domain wants one."""
        domain = self.agent.domain
        self.messages = prompt.render(domain, sources, history, question)
        guard = Guard(sources, numbers_need_source=domain.rules.numbers_need_source, forbid=domain.rules.forbid,
                      unknown=domain.unknown, heard=[question, *history])
        feeder, spoken, repeats, made = SentenceFeeder(), [], False, Made()
        stream = self._written(made)
        try:
            async for piece in stream:
                self._mark("first_token", once=True)
                for sentence in feeder.feed(harmless(piece)):
                    if repeats := sentence.strip() in spoken:  # a small model that begins to repeat itself has said it all
                        break
                    spoken.append(sentence.strip())
                    yield self._checked(guard, sentence)
                if repeats:
                    break
            if not repeats and (rest := feeder.close()).strip() and rest.strip() not in spoken:
                spoken.append(rest.strip())
                yield self._checked(guard, rest)
        finally:
            await stream.aclose()
            self._mark("generate")
            abstained = domain.unknown in " ".join(spoken)
            state = "refused" if abstained else self.turn.state
            self.turn = replace(self.turn, abstained=abstained, state=state, engine=made.engine,
                                prompt_tokens=made.prompt_tokens, tokens=made.tokens)
        if not self.turn.abstained and self.turn.intent in domain.rules.disclose_intents and domain.rules.disclosure:
            yield Delta(f"\n\n{domain.rules.disclosure}")

    async def _written(self, made: Made) -> AsyncIterator[str]:
        """What the generator writes; where it fails before the first word, perhaps what the one in process does, flagged."""
        longest, begun = self.longest, False
        try:
            stream = self.serving.generator.stream(self.messages, longest, session=self.turn.session, made=made)
            async with aclosing(self.trace.chat(stream, made)) as pieces:
                async for piece in pieces:
                    begun = True
                    yield piece
            return
        except EngineError as failure:
            if begun or self.serving.fallback is None:
                raise
            self.turn = replace(self.turn, flags=(*self.turn.flags, "fallback"))
            self.agent.notice(f"{failure} The model in process answers instead.")
        instead = await asyncio.to_thread(self.serving.fallback)
        stream = instead.stream(self.messages, longest, session=self.turn.session, made=made)
        async with aclosing(self.trace.chat(stream, made)) as pieces:
            async for piece in pieces:
                yield piece

    def _checked(self, guard: Guard, sentence: str) -> Delta:
        self._mark("first_word", once=True)
        verdict = guard.check(sentence)
        if verdict.flag and verdict.flag not in self.turn.flags:
            self.turn = replace(self.turn, flags=(*self.turn.flags, verdict.flag))
        return Delta(verdict.sentence)

    async def _from_tool(self, move: Move) -> AsyncIterator[Event]:
        """The tool's own sentences: its figures and cautions are told as they stand."""
        domain, intent = self.agent.domain, self.agent.domain.intents[move.intent or ""]
        with self.trace.tool(intent, move.slots) as told:
            told(result := await self._run_tool(intent, move.slots))
        self._mark("tool")
        self.turn = replace(self.turn, tool_arguments=move.slots, tool_result=result.summary,
                            state="failed" if result.failed else "done")
        yield ToolCalled(intent.tool, move.slots, result.summary)
        yield Delta(result.summary)
        if domain.rules.disclosure and intent.name in domain.rules.disclose_intents and not result.failed:
            yield Delta(f"\n\n{domain.rules.disclosure}")
        if result.slot in move.slots:
            self.state = dialogue.reopened(self.state, move, result.slot)
        if back := self._taken_up() or self._also():
            yield Delta(f"\n\n{back}")

    def _also(self) -> str:
        """Asks about what else the message wished, where nothing is open; an empty string where it wished nothing else."""
        if not self.later or self.state.intent or self.state.options:
            return ""
        told = {route.intent: said for said, route in self.later}
        self.state = replace(self.state, options=tuple(told), unclear=" ".join(told.values()))
        about = [self.agent.domain.intents[name].about for name in told]
        return f"You also asked about {' and about '.join(about)}. Shall I go on with {'that' if len(about) == 1 else 'the first of them'}?"

    def _taken_up(self) -> str:
        """How the wish that was interrupted is taken up again, or an empty string."""
        back = dialogue.resume(self.agent.domain, self.state, self._read, self._changes)
        self.state = back.state if back else self.state
        return dialogue.open_question(self.agent.domain, back.state) if back else ""

    async def _run_tool(self, intent: Intent, values: dict[str, Any]) -> toolbox.Result:
        """Tools get the person's own words back where a mark stands for them; the log keeps the mark."""
        agent, redactor = self.agent, self.redactor
        for name, value in values.items():
            if isinstance(value, str) and redactor.lost(value):
                return toolbox.Result(f"I no longer have the {name} that you told me. Please tell me once more.", True, name)
        restored = {name: redactor.restore(value) if isinstance(value, str) else value for name, value in values.items()}
        if tool := agent.tools.get(intent.name):
            site = {"key": self.turn.id, "session": self.turn.session, "author": self.author, "now": agent.now()}
            result = await toolbox.call(tool, restored, site)
        else:
            key, now = self.turn.id, agent.now()
            result = await asyncio.to_thread(toolbox.run, agent.domain, intent, restored, agent.tool_state, key, now)
        said_again = tool or restored != values  # what may hold a private value of the person's
        return replace(result, summary=redactor.redact(result.summary)) if said_again else result

    def _changes(self, intent: Intent) -> bool:
        return toolbox.changes(intent, self.agent.tools)

    def _mark(self, stage: str, once: bool = False) -> None:
        if once and stage in self.turn.timings_ms:
            return
        spent = round((time.perf_counter() - self.started) * 1000, 1)
        self.turn.timings_ms[stage] = spent
