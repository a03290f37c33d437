"""The chat: a conversation, the prompt below it, and one line about what serves it."""

from typing import TYPE_CHECKING, Any

from textual import events, on, work
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.screen import Screen
from textual.widgets import Static
from textual.worker import Worker

from agent.surfaces.tui import actions
from agent.surfaces.tui.asking import Asking
from agent.surfaces.tui.talk import Talk, resumed, siblings, turns_of
from agent.surfaces.tui.teaching import heard
from agent.surfaces.tui.widgets.conversation import Conversation
from agent.surfaces.tui.widgets.keyline import KeyLine
from agent.surfaces.tui.widgets.message import Message, Said
from agent.surfaces.tui.widgets.prompt import Prompt
from agent.surfaces.tui.widgets.status import Status
from agent.surfaces.tui.widgets.why import NARROW, Why

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.surfaces.tui.app import RetuneApp


class ChatScreen(Screen[None]):
    """One conversation at a time; `asking` is its running turn."""

    app: "RetuneApp"
    part = "chat"
    AUTO_FOCUS = "Prompt"
    BINDINGS = actions.bindings("chat", priority=True)

    def __init__(self, talk: Talk) -> None:
        super().__init__()
        self.talk = talk
        self.asking = Asking(self)
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
        yield Status("", id="status", markup=False)
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
        return self.asking.free

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
        """A message from the prompt; it stays there while an answer is being written, and goes by itself then."""
        if not self.send(event.text):
            event.keep()
            self.asking.next = event.text
            self.renew()

    def send(self, text: str) -> bool:
        """Begin a turn; False while another one runs."""
        return self.asking.begin(text)

    @on(Worker.StateChanged)
    def ended(self, event: Worker.StateChanged) -> None:
        """After a turn goes what was sent meanwhile, unless it was changed since."""
        if event.worker.group == "turn" and self.free:
            text, self.asking.next = self.asking.next, ""
            if text and self.prompt.text.strip() == text:
                self.prompt.action_send()
            self.renew()

    async def open(self, talk: Talk, rows: "Sequence[dict[str, Any]]" = (), turn_id: str | None = None) -> None:
        """Show another conversation, at its end or with the focus on one turn; a running answer is stopped first."""
        self.asking.next = ""
        self.asking.stop()
        await self.asking.finished()
        self.talk, self.asking.served = talk, {}
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
        self.query_one("#head", Static).update(f"Retune   {' · '.join(titles)}", layout=False)
        self.query_one(Status).tell(self.progress, self.asking.served, loaded, self.talk.wanted, self.app.failed,
                                    bool(self.asking.next))
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
        if action in ("pageup", "pagedown"):
            return self.query_one(Why) not in (self.focused.ancestors_with_self if self.focused else ())
        if action in ("previous", "next", "export", "first", "last"):
            return bool(self.messages)
        return action != "why" or hasattr(self, "action_why")

    def action_stop(self) -> None:
        """Stop the running answer; what was said of it is logged."""
        self.asking.stop()

    def action_prompt(self) -> None:
        """Back to the prompt."""
        self.prompt.focus()

    async def action_previous(self) -> None:
        """Focus the answer above, from the prompt the newest."""
        await self._move(-1)

    async def action_next(self) -> None:
        """Focus the answer below, after the newest the prompt."""
        await self._move(1)

    def action_pageup(self) -> None:
        """Scroll up in the conversation, wherever the focus is."""
        self.conversation.page(-1)

    def action_pagedown(self) -> None:
        """Scroll down in it."""
        self.conversation.page(1)

    async def action_first(self) -> None:
        """To where the conversation begins."""
        await self.conversation.go(0)

    async def action_last(self) -> None:
        """To its end."""
        await self.conversation.go(None)

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
        self.asking.served = {}
        self.renew()
        self.app.load_agents()

    async def _move(self, by: int) -> None:
        wanted = await self.conversation.beside(self.focused_answer, by)
        (wanted or self.prompt).focus()

