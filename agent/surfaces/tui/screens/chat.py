"""The chat: a conversation, the prompt below it, and one line about what serves it."""

from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any

from textual import events, on, work
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.screen import Screen
from textual.widgets import Static
from textual.worker import Worker, WorkerError

from agent.errors import RetuneError
from agent.surfaces.tui import actions, confirming
from agent.surfaces.tui.talk import Talk, resumed, row_of, siblings, turns_of
from agent.surfaces.tui.teaching import heard
from agent.surfaces.tui.widgets.conversation import Conversation
from agent.surfaces.tui.widgets.keyline import KeyLine
from agent.surfaces.tui.widgets.message import Message, Said
from agent.surfaces.tui.widgets.prompt import Prompt
from agent.surfaces.tui.widgets.why import NARROW, Why
from agent.types import Delta, Done, Routed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.surfaces.tui.app import RetuneApp

class ChatScreen(Screen[None]):
    """One conversation at a time. `send` begins a turn, `answering` is the one that runs."""

    app: "RetuneApp"
    part = "chat"
    AUTO_FOCUS = "Prompt"
    BINDINGS = actions.bindings("chat", priority=True)

    def __init__(self, talk: Talk) -> None:
        super().__init__()
        self.talk = talk
        self.worker: Worker[None] | None = None
        self.served: dict[str, Any] = {}
        self.progress = ""
        self.allowed: set[tuple[str, str]] = set()
        """(session, tool): what needs no further yes, until the app is left."""
        self.wants_why = False

    def compose(self) -> ComposeResult:
        """Title, conversation with room beside it, prompt, status, keys."""
        yield Static("", id="head", markup=False)
        with Horizontal(id="body"):
            yield Conversation(id="conversation")
            yield Why(id="why")
        yield Prompt()
        yield Static("", id="status", markup=False)
        yield KeyLine(id="keys")

    def on_mount(self) -> None:
        """Load what answers, while a person writes."""
        self.renew()

    @property
    def conversation(self) -> Conversation:
        """What was said, as far as it is shown."""
        return self.query_one(Conversation)

    @property
    def prompt(self) -> Prompt:
        """Where the person writes."""
        return self.query_one(Prompt)

    @property
    def free(self) -> bool:
        """No answer is being written."""
        return self.worker is None or self.worker.is_finished

    @property
    def messages(self) -> list[Message]:
        """Questions with their answers, oldest first, of the part that is shown."""
        return self.conversation.messages

    @property
    def focused_answer(self) -> Message | None:
        """The answer that has the focus."""
        above = self.focused.ancestors_with_self if self.focused else ()
        return next((node for node in above if isinstance(node, Message)), None)

    @property
    def answer(self) -> Message | None:
        """The focused answer, else the newest."""
        return self.focused_answer or next(iter(self.messages[-1:]), None)

    @on(Prompt.Sent)
    def sent(self, event: Prompt.Sent) -> None:
        """A message from the prompt."""
        if not self.send(event.text):
            event.keep()

    def send(self, text: str) -> bool:
        """Begin a turn; False while another one runs."""
        if not self.free:
            self.notify("An answer is being written; Esc stops it.")
            return False
        self.worker = self.run_worker(self._turn(text), group="turn", exit_on_error=False)
        return True

    async def _turn(self, text: str) -> None:
        talk, backstage = self.talk, self.app.backstage
        turn_id, why, domain = None, "stopped", ""
        message = await self.conversation.add(Said(text))
        self.refresh_bindings()
        try:
            message.wait("…" if set(talk.wanted) <= set(backstage.loaded()) else "waits until the models are loaded …")
            agents = {name: await backstage.agent(name) for name in talk.wanted}
            agent = await backstage.call(talk.choose, text, agents)
            domain = agent.domain.name
            async with aclosing(backstage.stream(agent, text, talk.session(domain), self.app.author)) as events:
                async for event in events:
                    if isinstance(event, Routed):
                        turn_id = event.turn.id
                        message.wait(f"{domain} · {(event.turn.intent or 'out of scope').replace('_', ' ')} …")
                    elif isinstance(event, Delta):
                        message.say(event.text)
                    elif isinstance(event, Done):
                        talk.current = domain
                        self.served = row_of(event.turn, event.reply)
                        await message.finish(self.served, event.turn)
                        turn_id = None
                        if event.turn.state == "confirming":
                            self.app.run_worker(confirming.confirm(message), group="confirm")
                        return
        except RetuneError as error:
            why = str(error)
        finally:
            if message.running:
                row = await backstage.call(self.app.store.turn, turn_id) if turn_id else None
                await message.fail(why, row)
            self.renew()

    async def finished(self) -> None:
        """Return when no answer is being written any more."""
        if self.worker:
            with suppress(WorkerError):
                await self.worker.wait()

    async def open(self, talk: Talk, rows: "Sequence[dict[str, Any]]" = (), turn_id: str | None = None) -> None:
        """Show another conversation, at its end or with the focus on one turn; a running answer is stopped first."""
        if self.worker and not self.free:
            self.worker.cancel()
            await self.finished()
        self.talk, self.served = talk, {}
        at = next((number for number, row in enumerate(rows) if row["id"] == turn_id), None)
        found = await self.conversation.show([Said(row["question"], row) for row in rows], at)
        (found or self.prompt).focus()
        self.prompt.sent = list(dict.fromkeys(row["question"] for row in rows)) or self.prompt.sent
        self.renew()
        self.app.load_agents()

    def renew(self) -> None:
        """Say again what serves, and what can be done."""
        if not self.query("#head"):
            return
        loaded = self.app.backstage.loaded()
        titles = [loaded[name].domain.title if name in loaded else name for name in self.talk.wanted]
        self.query_one("#head", Static).update(f"Retune   {' · '.join(titles)}")
        said = self.progress or status(self.served, loaded, self.talk.wanted, self.app.failed)
        self.query_one("#status", Static).update(said)
        self.refresh_bindings()
        self.call_later(self.tell_why)

    async def tell_why(self) -> None:
        """The why panel, where it is wanted and has room, follows the focused answer."""
        panel = self.query_one(Why)
        panel.display = self.wants_why and self.size.width >= NARROW
        if panel.display and panel not in (self.focused.ancestors_with_self if self.focused else ()):
            await panel.show(self.answer)

    async def on_descendant_focus(self) -> None:
        """Another answer may have the focus."""
        await self.tell_why()

    async def on_resize(self, event: events.Resize) -> None:
        """Room for the panel may come or go."""
        await self.tell_why()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Esc stops, then goes back to the prompt; in an idle prompt it has nothing to do."""
        if action == "stop":
            return not self.free
        if action == "prompt":
            return self.free and not isinstance(self.focused, Prompt)
        if action in ("previous", "next", "export"):
            return bool(self.messages)
        return action != "why" or hasattr(self, "action_why")

    def action_stop(self) -> None:
        """Stop the running answer; what was said of it is logged."""
        if self.worker:
            self.worker.cancel()

    def action_prompt(self) -> None:
        """Back to the prompt."""
        self.prompt.focus()

    async def action_previous(self) -> None:
        """Focus the answer above, from the prompt the newest."""
        await self._move(-1)

    async def action_next(self) -> None:
        """Focus the answer below, after the newest the prompt."""
        await self._move(1)

    @work(group="open", exclusive=True)
    async def resume(self, session: str, domain: str, turn_id: str | None = None) -> None:
        """Go on with a conversation that is kept, where it stopped or at one of its turns."""
        turns = await self.app.backstage.call(lambda: heard(self.app.store, turns_of(self.app.store, session, domain)))
        await self.open(resumed(session, domain, self.app.domains), turns, turn_id)

    @work(group="open", exclusive=True)
    async def action_new(self) -> None:
        """A new conversation with the same domains."""
        await self.open(Talk(self.talk.domains, only=self.talk.only))

    async def action_why(self) -> None:
        """Show what the answer was made from, or hide it; on a narrow screen over the conversation."""
        if self.size.width < NARROW:
            from agent.surfaces.tui.screens.why import WhyScreen

            self.app.push_screen(WhyScreen(self.answer))
            return
        self.wants_why = not self.wants_why
        if not self.wants_why and self.focused and self.query_one(Why) in self.focused.ancestors_with_self:
            (self.answer or self.prompt).focus()
        await self.tell_why()

    def action_sessions(self) -> None:
        """The list of conversations."""
        from agent.surfaces.tui.screens.sessions import SessionsScreen

        self.app.push_screen(SessionsScreen())

    def action_search(self) -> None:
        """Words in all conversations."""
        from agent.surfaces.tui.screens.search import SearchScreen

        self.app.push_screen(SearchScreen())

    @work(group="keeping")
    async def action_export(self) -> None:
        """The conversation as Markdown, into the working directory."""
        from agent.surfaces.tui.files import export

        said = [message.row for message in self.messages if message.row]
        ids = await self.app.backstage.call(lambda: siblings(self.app.store, self.talk.base))
        wanted = ids or list(dict.fromkeys(row["session"] for row in said))
        names = await self.app.backstage.call(export, self.app.store, wanted)
        self.notify(f"Written: {', '.join(names)}" if names else "Nothing of it is kept yet.", markup=False)

    @work(group="keeping")
    async def action_domain(self) -> None:
        """Settle one domain, or let each message find its own; the conversation goes on."""
        from agent.domain import shipped
        from agent.surfaces.tui.screens.dialogs import Pick

        every = list(dict.fromkeys((*self.app.domains, *await self.app.backstage.call(shipped))))
        loaded = self.app.backstage.loaded()
        entries = [("*", "each message finds its own")] + [
            (name, f"{name}  {loaded[name].domain.title if name in loaded else ''}".rstrip()) for name in every]
        picked = await self.app.push_screen_wait(Pick("Talk to", entries, self.talk.only or "*"))
        if picked is None:
            return
        self.talk = self.talk.settled(every, None if picked == "*" else picked)
        self.served = {}
        self.renew()
        self.app.load_agents()

    async def _move(self, by: int) -> None:
        wanted = await self.conversation.beside(self.focused_answer, by)
        (wanted or self.prompt).focus()


def status(row: dict[str, Any], loaded: dict[str, Any], wanted: list[str], failed: set[str]) -> str:
    """Bundle, engine, tokens and time to the first word of the last answer; before it: what is ready."""
    if not row:
        if lost := [name for name in wanted if name in failed]:
            return f"could not be loaded: {', '.join(lost)}; a message tries again"
        ready = [loaded[name].serving.bundle.name for name in wanted if name in loaded]
        return "ready: " + " · ".join(ready) if len(ready) == len(wanted) else f"loading {len(ready) + 1} of {len(wanted)} …"
    times = row["timings_ms"]
    first = times.get("first_word", times.get("total", 0)) / 1000
    tokens = f"{row['prompt_tokens']} + {row['tokens']} tokens" if row["engine"] else ""
    parts = [row["bundle"], row["engine"], tokens, f"{first:.2f} s to the first word"]
    return " · ".join(part for part in parts if part)
