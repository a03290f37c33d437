"""F1: what can be done in the part that has the focus, made from the table of actions."""

from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen, Screen
from textual.widgets import Static

from agent.surfaces.tui import actions
from agent.surfaces.tui.widgets.keyrow import KeyRow

if TYPE_CHECKING:
    from agent.surfaces.tui.app import RetuneApp

PARTS = {"app": "Everywhere", "chat": "In the chat", "prompt": "In the prompt", "answer": "On the focused answer",
         "review": "In the review", "desk": "At the hand-off desk"}
"""How a part is called above its actions; a screen's part is called by its name."""


class HelpScreen(ModalScreen[None]):
    """Lists the actions of the focused part first, then those of the screen and of the app."""

    app: "RetuneApp"
    BINDINGS = [Binding("escape,f1,q", "dismiss", "Close", show=False)]
    part = "help"

    def __init__(self, below: "Screen[object]") -> None:
        super().__init__()
        here, part = getattr(below, "part", "chat"), actions.part_of(below)
        self.parts = list(dict.fromkeys((part, here, *(("prompt", "answer") if here == "chat" else ()), "app")))
        self.now = actions.keys_now(below)

    def compose(self) -> ComposeResult:
        """One block for each part."""
        with Vertical(classes="box tall"):
            yield Static("Help", classes="title")
            with VerticalScroll():
                for part in self.parts:
                    if rows := self._rows(part):
                        yield Static(PARTS.get(part, part.capitalize()), classes="heading")
                        yield from rows
            yield Static("Esc close   ↑ ↓ scroll", classes="keys", markup=False)

    def _rows(self, part: str) -> list[KeyRow]:
        rows = []
        for action in actions.ACTIONS:
            if action.part == part and self.app.there(action.id):
                keys = self.now.get(action.id) or self.app.remapped.get(action.id, action.keys)
                what = Content.assemble((action.title, "bold"), "  ", (action.help, "$foreground 60%"))
                rows.append(KeyRow(actions.shown(keys) or "palette", what))
        return rows
