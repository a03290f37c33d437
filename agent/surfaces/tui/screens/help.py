"""F1: what can be done in the part that has the focus, made from the table of actions."""

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen, Screen
from textual.widgets import Static

from agent.surfaces.tui import actions

PARTS = {"app": "Everywhere", "chat": "In the chat", "prompt": "In the prompt", "answer": "On the focused answer"}
"""How a part is called above its actions; a screen's part is called by its name."""


class HelpScreen(ModalScreen[None]):
    """Lists the actions of the focused part first, then those of the screen and of the app."""

    BINDINGS = [Binding("escape,f1,q", "dismiss", "Close", show=False)]
    part = "help"

    def __init__(self, below: "Screen[object]") -> None:
        super().__init__()
        self.parts = list(dict.fromkeys((actions.part_of(below), getattr(below, "part", "chat"), "answer"
                                         if getattr(below, "part", "") == "chat" else "app", "app")))
        self.now = actions.keys_now(below)
        self.keys = getattr(self.app, "keymap_shown", {}) if self.is_attached else {}

    def compose(self) -> ComposeResult:
        """One block for each part."""
        with Vertical(classes="box tall"):
            yield Static("Help", classes="title")
            with VerticalScroll():
                for part in self.parts:
                    yield Static(PARTS.get(part, part.capitalize()), classes="heading")
                    yield Static(Content("\n").join(self._lines(part)), classes="lines")
            yield Static("Esc close   ↑ ↓ scroll", classes="keys", markup=False)

    def _lines(self, part: str) -> list[Content]:
        remapped = getattr(self.app, "remapped", {})
        lines = []
        for action in actions.ACTIONS:
            if action.part == part and self.app.there(action.id):
                keys = actions.shown(self.now.get(action.id) or remapped.get(action.id, action.keys)) or "in the palette"
                pieces = (f"{keys:<18}", "bold $accent"), f"{action.title:<15} ", (action.help, "$text-muted")
                lines.append(Content.assemble(*pieces))
        return lines
