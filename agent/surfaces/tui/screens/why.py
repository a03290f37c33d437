"""The why panel as a screen of its own, where there is no room for it beside the conversation."""

from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Static

from agent.surfaces.tui.widgets.why import Why

if TYPE_CHECKING:
    from agent.surfaces.tui.widgets.message import Message


class WhyScreen(ModalScreen[None]):
    """One answer's reasons."""

    BINDINGS = [Binding("escape,f2,w,q", "dismiss", "Close", show=False)]
    part = "why"

    def __init__(self, message: "Message | None") -> None:
        super().__init__()
        self.message = message

    def compose(self) -> ComposeResult:
        """The panel, and its keys."""
        with Vertical(classes="box tall"):
            yield Static("Why", classes="title")
            yield Why()
            yield Static("↑ ↓ scroll   Tab to a passage, Enter opens its article   Esc close", classes="keys", markup=False)

    async def on_mount(self) -> None:
        """Tell about the answer."""
        panel = self.query_one(Why)
        await panel.show(self.message)
        panel.focus()
