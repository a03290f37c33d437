"""The chat: a conversation, the prompt below it, and one line about what serves it."""

from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, VerticalScroll
from textual.screen import Screen
from textual.widgets import Static
from textual.worker import Worker

from agent.errors import RetuneError
from agent.surfaces.tui import actions
from agent.surfaces.tui.talk import Talk, row_of
from agent.surfaces.tui.widgets.keyline import KeyLine
from agent.surfaces.tui.widgets.message import Message
from agent.surfaces.tui.widgets.prompt import Prompt
from agent.types import Delta, Done, Routed

if TYPE_CHECKING:
    from agent.surfaces.tui.app import RetuneApp

HERE = ("stop", "previous", "next")  # what this screen does by itself; more by mixing in a room that has the method


class ChatScreen(Screen[None]):
    """One conversation at a time. `send` begins a turn, `answering` is the one that runs."""

    app: "RetuneApp"
    part = "chat"
    AUTO_FOCUS = "Prompt"
    BINDINGS = actions.bindings("chat", HERE, priority=True)

    def __init__(self, talk: Talk) -> None:
        super().__init__()
        self.talk = talk
        self.worker: Worker[None] | None = None
        self.served: dict[str, Any] = {}
        self.progress = ""

    def compose(self) -> ComposeResult:
        """Title, conversation with room beside it, prompt, status, keys."""
        yield Static("", id="head", markup=False)
        with Horizontal(id="body"):
            yield VerticalScroll(id="conversation", can_focus=False)
        yield Prompt()
        yield Static("", id="status", markup=False)
        yield KeyLine(id="keys")

    def on_mount(self) -> None:
        """Load what answers, while a person writes."""
        self.query_one("#conversation", VerticalScroll).anchor()
        self.renew()

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
        """Questions with their answers, oldest first."""
        return list(self.query(Message))

    @property
    def answer(self) -> Message | None:
        """The focused answer, else the newest."""
        focused = [node for node in (self.focused.ancestors_with_self if self.focused else ()) if isinstance(node, Message)]
        return next(iter(focused or self.messages[-1:]), None)

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
        message = Message(text)
        self.query_one("#conversation").mount(message)
        self.query_one("#conversation", VerticalScroll).anchor()
        self.worker = self.run_worker(self._turn(message, text), group="turn", exit_on_error=False)
        return True

    async def _turn(self, message: Message, text: str) -> None:
        talk, backstage = self.talk, self.app.backstage
        turn_id, why, domain = None, "stopped", ""
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
                        return
        except RetuneError as error:
            why = str(error)
        finally:
            if message.running:
                row = await backstage.call(self.app.store.turn, turn_id) if turn_id else None
                await message.fail(why, row)
            self.renew()

    def renew(self) -> None:
        """Say again what serves, and what can be done."""
        if not self.query("#head"):
            return
        loaded = self.app.backstage.loaded()
        titles = [loaded[name].domain.title if name in loaded else name for name in self.talk.wanted]
        self.query_one("#head", Static).update(f"Retune   {' · '.join(titles)}")
        self.query_one("#status", Static).update(self.progress or status(self.served, loaded, self.talk.wanted))
        self.refresh_bindings()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Esc has nothing to do in an idle prompt."""
        if action == "stop":
            return not self.free or not isinstance(self.focused, Prompt)
        if action in ("previous", "next"):
            return bool(self.messages)
        return True

    def action_stop(self) -> None:
        """Stop the running answer, else go back to the prompt."""
        if not self.free and self.worker:
            self.worker.cancel()
        else:
            self.prompt.focus()

    def action_previous(self) -> None:
        """Focus the answer above, from the prompt the newest."""
        self._move(-1)

    def action_next(self) -> None:
        """Focus the answer below, after the newest the prompt."""
        self._move(1)

    def _move(self, by: int) -> None:
        messages, at = self.messages, self.answer
        here = messages.index(at) if at in messages and self.focused in at.walk_children(with_self=True) else len(messages)
        wanted = here + by
        if wanted >= len(messages):
            self.prompt.focus()
        else:
            messages[max(0, wanted)].focus()


def status(row: dict[str, Any], loaded: dict[str, Any], wanted: list[str]) -> str:
    """Domain, bundle, engine, tokens and time to the first word of the last answer; before it: what is ready."""
    if not row:
        ready = [loaded[name].serving.bundle.name for name in wanted if name in loaded]
        return "ready: " + " · ".join(ready) if len(ready) == len(wanted) else f"loading {len(ready) + 1} of {len(wanted)} …"
    times = row["timings_ms"]
    first = times.get("first_word", times.get("total", 0)) / 1000
    tokens = f"{row['prompt_tokens']} + {row['tokens']} tokens" if row["engine"] else ""
    parts = [row["domain"], row["bundle"], row["engine"], tokens, f"{first:.2f} s to the first word"]
    return " · ".join(part for part in parts if part)
