"""A tool that changes something waits for a yes: once, always in this conversation, no. Or in one's own words."""

from collections.abc import Callable

from textual import events
from textual.app import ComposeResult
from textual.content import Content
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from agent.signs import harmless
from agent.surfaces.tui.screens.dialogs import Dialog

CHOICES = {"once": "Yes, this once", "always": "Yes, and without a question for the rest of this conversation", "no": "No"}


class Confirm(Dialog):
    """Gives a word of CHOICES; None on Esc, and where somebody begins to type, whose first sign goes to `typed`.

    Nothing is marked at first and no letter means yes: what was meant for the prompt must not change anything.
    """

    def __init__(self, question: str, tool: str, typed: Callable[[str], None]) -> None:
        super().__init__("This would change something", "↑ ↓ Enter choose   Esc, or just type: answer in your own words")
        self.question, self.tool, self.typed = question, tool, typed

    def inside(self) -> ComposeResult:
        """What was asked, what would do it, the choices."""
        yield Static(harmless(self.question.strip()), markup=False)
        yield Static(harmless(self.tool), classes="by", markup=False)
        yield OptionList(*(Option(Content(said), id=word) for word, said in CHOICES.items()), compact=True, markup=False)

    def on_mount(self) -> None:
        """None is marked."""
        self.query_one(OptionList).highlighted = None

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """By Enter or with the mouse."""
        self.dismiss(event.option.id)

    def on_key(self, event: events.Key) -> None:
        """An answer begins; the signs behind this one go to the prompt by themselves."""
        if event.is_printable and event.character and not event.character.isspace():
            event.stop()
            self.typed(event.character)
            self.dismiss(None)
