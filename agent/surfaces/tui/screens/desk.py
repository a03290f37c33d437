"""The hand-off desk: conversations that wait for a person, who takes one, reads it whole and answers in it.

Shows; who has what is `tui.handoffs`. It looks for new hand-offs by itself while it is on the screen.
"""

from typing import TYPE_CHECKING, Any

from textual import on, work
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.screen import Screen
from textual.widgets import Static

from agent.errors import RetuneError
from agent.signs import harmless
from agent.surfaces.tui import actions
from agent.surfaces.tui.handoffs import HandoffDesk
from agent.surfaces.tui.screens.dialogs import Ask
from agent.surfaces.tui.widgets import handoff as drawn
from agent.surfaces.tui.widgets.handoff import HandoffList
from agent.surfaces.tui.widgets.keyline import KeyLine
from agent.surfaces.tui.widgets.prompt import Prompt

if TYPE_CHECKING:
    from agent.surfaces.tui.app import RetuneApp

EVERY_S = 1.0
"""Between two looks for new hand-offs."""


class DeskScreen(Screen[None]):
    """`open` is the hand-off that was taken and is being answered."""

    app: "RetuneApp"
    part = "desk"
    AUTO_FOCUS = "#list"
    BINDINGS = actions.bindings("desk", only=("back",))

    def __init__(self) -> None:
        super().__init__()
        self.desk: HandoffDesk | None = None
        self.open: dict[str, Any] | None = None
        self.drafts: dict[str, str] = {}
        """Turn -> what was written to it and not sent."""
        self.busy = False
        self._deeds = 0  # what was read before one of them is not true after it
        self._reading: tuple[str, int] | None = None

    def compose(self) -> ComposeResult:
        """Counts, the list and beside it the conversation with the answer below, keys."""
        yield Static("Desk", id="head", markup=False)
        with Horizontal(id="body"):
            yield HandoffList(id="list")
            with Vertical(id="case"):
                with VerticalScroll(id="said"):
                    yield Static("", markup=False)
                yield Prompt()
        yield KeyLine(id="keys")

    def on_mount(self) -> None:
        """Nothing to answer yet; look, and go on looking."""
        self.prompt.display = False
        self.prompt.placeholder = "Your answer. Enter keeps it, Ctrl+J begins a new line, Esc goes to the list."
        self.set_interval(EVERY_S, self.tick)

    def on_screen_resume(self) -> None:
        """Look at once."""
        self.read()

    async def on_unmount(self) -> None:
        """What was taken goes back; the store is still open."""
        if self.desk is not None:
            await self.app.backstage.call(self.desk.close)

    @property
    def waiting(self) -> HandoffList:
        """Those that wait or are taken."""
        return self.query_one(HandoffList)

    @property
    def prompt(self) -> Prompt:
        """Where the person answers."""
        return self.query_one(Prompt)

    def tick(self) -> None:
        """Look again, unless nobody sees it."""
        if self.is_current:
            self.read()

    @work(group="read", exclusive=True)
    async def read(self, wanted: str | None = None) -> None:
        """Who waits now; the cursor stays, or goes to the turn `wanted`."""
        deeds = self._deeds
        try:
            items = await self.app.backstage.call(self._waiting)
        except RetuneError as error:
            self.query_one("#head", Static).update(f"Desk   {harmless(str(error))}")
            return
        if self.busy or deeds != self._deeds:
            return
        self.waiting.fill(items, self.app.author, wanted)
        self._still_mine(items)
        waiting = sum(each["status"] == "waiting" for each in items)
        mine = sum(each["by"] == self.app.author for each in items)
        said = f"{waiting} {'waits' if waiting == 1 else 'wait'}" if items else "nobody waits"
        self.query_one("#head", Static).update(f"Desk   {said}{f' · {mine} yours' if mine else ''}")
        self.look()

    def _waiting(self) -> list[dict[str, Any]]:
        if self.desk is None:
            self.desk = HandoffDesk(self.app.store, self.app.author)
        self.desk.agents = {agent.domain.name: agent for agent in self.app.backstage.loaded().values()}
        return self.desk.waiting()

    def _still_mine(self, items: list[dict[str, Any]]) -> None:
        if self.open is None:
            return
        now = next((each for each in items if each["turn"] == self.open["turn"]), None)
        if now is None or now["by"] != self.app.author:
            self._shut()
            who = now["by"] if now and now["by"] else "somebody"
            self.notify(f"It is yours no longer: {harmless(who)} has seen to it. What you wrote is kept here.", markup=False)

    @on(HandoffList.OptionHighlighted)
    def moved(self) -> None:
        """Another conversation is looked at."""
        self.look()

    @work(group="look", exclusive=True)
    async def look(self) -> None:
        """The conversation under the cursor, as it is now and at its end; below it the answer, if it is the open one."""
        each, pane = self.waiting.shown, self.query_one("#said", VerticalScroll)
        self.prompt.display = self.open is not None and each is not None and self.open["turn"] == each["turn"]
        self.refresh_bindings()
        if each is None or self.desk is None:
            self._reading = None
            pane.query_one(Static).update("" if self.desk is None else
                                          "Nobody waits for a person. Whoever is handed over appears here by themselves.")
            return
        try:
            turns = await self.app.backstage.call(self.desk.conversation, each)
        except RetuneError as error:
            self.notify(harmless(str(error)), severity="error", markup=False)
            return
        reading = each["turn"], len(turns)
        if reading != self._reading:
            self._reading = reading
            pane.query_one(Static).update(drawn.conversation(each, turns))
            self.call_after_refresh(pane.scroll_end, animate=False)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Nothing can be done to an empty list, and only what is taken can be released."""
        shown = self.waiting.shown if self.query("#list") else None
        if action == "take":
            return shown is not None
        if action == "release":
            return shown is not None and shown["status"] == "taken"
        return bool(self.desk and self.desk.answered) if action == "undo" else True

    @on(HandoffList.OptionSelected)
    def clicked(self) -> None:
        """With the mouse."""
        self.action_take()

    @work(group="desk")
    async def action_take(self) -> None:
        """Take it; whoever comes second is told who has it."""
        if (each := self.waiting.shown) and await self._do(self.desk.take, each["turn"]):
            self._keep_draft()
            self.open = each
            self.prompt.display = True
            self.prompt.fill(self.drafts.get(each["turn"], ""))
            self.read(each["turn"])

    @work(group="desk")
    async def action_release(self) -> None:
        """Let it wait again; of somebody else's only after a question."""
        each = self.waiting.shown
        if each is None or each["status"] != "taken":
            return
        if each["by"] != self.app.author:
            title = f"{harmless(each['by'])} has it. Let it wait for others?"
            if await self.app.push_screen_wait(Ask(title, {"let it wait": "y", "leave it": "n"})) != "let it wait":
                return
        if self.open and self.open["turn"] == each["turn"]:
            self._shut()
        if await self._do(self.desk.release, each["turn"]):
            self.read(each["turn"])

    @on(Prompt.Sent)
    def sent(self, event: Prompt.Sent) -> None:
        """The person's answer."""
        if self.open is None or self.busy:
            event.keep()
        else:
            self.answer(self.open, event)

    @work(group="desk")
    async def answer(self, each: dict[str, Any], event: Prompt.Sent) -> None:
        """Kept as theirs; what could not be kept stands in the prompt again."""
        if not await self._do(self.desk.answer, each, event.text):
            event.keep()
            return
        self._shut()
        self.drafts.pop(each["turn"], None)
        self.notify("Kept as your answer. It becomes a correction once it is reviewed.")
        self.read()

    @work(group="desk")
    async def action_undo(self) -> None:
        """The last answer is taken back, and the conversation waits for you again."""
        if self.desk and (turn := await self._do(self.desk.undo)):
            self.notify("Your answer is taken back; Enter goes on with the conversation.")
            self.read(turn)

    def action_back(self) -> None:
        """From the answer to the list, from the list to the chat."""
        if isinstance(self.focused, Prompt):
            self.waiting.focus()
        else:
            self.app.action_chat()

    async def _do(self, deed: Any, *given: Any) -> Any:
        """Something that changes the store, one after another; False, with the reason told, if it is refused."""
        if self.busy:
            return False
        self.busy = True
        try:
            return await self.app.backstage.call(deed, *given) or True
        except RetuneError as error:
            self.notify(harmless(str(error)), severity="warning", timeout=10, markup=False)
            return False
        finally:
            self.busy = False
            self._deeds += 1

    def _keep_draft(self) -> None:
        if self.open and self.prompt.text.strip():
            self.drafts[self.open["turn"]] = self.prompt.text

    def _shut(self) -> None:
        """Back to the list; what was written and not sent is kept."""
        self._keep_draft()
        self.open, self.prompt.display = None, False
        self.prompt.clear()
        self.waiting.focus()
