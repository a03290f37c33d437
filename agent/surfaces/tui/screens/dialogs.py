"""Small questions over the screen: one of a few words, a line, a text, one of a list. Each gives None when it is left."""

from collections.abc import Sequence

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.content import Content
from textual.fuzzy import Matcher
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList, Static, TextArea
from textual.widgets.option_list import Option

from agent.signs import harmless
from agent.surfaces.tui.widgets.fields import Area, Field

LEAVE = Binding("escape", "leave", "Leave", show=False)


class Dialog(ModalScreen[str | None]):
    """A box with a title, and a last line that names its keys."""

    BINDINGS = [LEAVE]
    part = "dialog"

    def __init__(self, title: str, keys: str) -> None:
        super().__init__()
        self.said, self.keys = title, keys

    def inside(self) -> ComposeResult:
        """What stands between title and keys."""
        yield from ()

    def compose(self) -> ComposeResult:
        """Title, inside, keys."""
        with Vertical(classes="box"):
            yield Static(harmless(self.said), classes="title", markup=False)
            yield from self.inside()
            yield Static(self.keys, classes="keys", markup=False)

    def action_leave(self) -> None:
        """Without an answer."""
        self.dismiss(None)


class Ask(Dialog):
    """A question with a few answers, each on its key; gives the answer's word. The first is what Enter means.

    `Ask("Leave?", {"leave": "y", "stay": "n"})`
    """

    def __init__(self, title: str, choices: dict[str, str]) -> None:
        super().__init__(title, "   ".join(f"{key} {word}" for word, key in choices.items()) + "   Esc back")
        self.choices = choices

    def on_key(self, event: object) -> None:
        """One of the answers' keys."""
        key, character = getattr(event, "key", ""), getattr(event, "character", None)
        for word, wanted in self.choices.items():
            if wanted in (key, character):
                self.dismiss(word)
                return
        if key == "enter":
            self.dismiss(next(iter(self.choices)))


class Line(Dialog):
    """One line of text."""

    def __init__(self, title: str, text: str = "") -> None:
        super().__init__(title, "Enter keep   Esc back")
        self.text = text

    def inside(self) -> ComposeResult:
        """The line."""
        yield Field(harmless(self.text), compact=True)

    @on(Input.Submitted)
    def keep(self, event: Input.Submitted) -> None:
        """Give the line."""
        self.dismiss(event.value.strip())


class Edit(Dialog):
    """A text of several lines."""

    BINDINGS = [Binding("ctrl+s", "keep", "Keep", show=False, priority=True)]

    def __init__(self, title: str, text: str = "") -> None:
        super().__init__(title, "Ctrl+S keep   Esc back")
        self.text = text

    def inside(self) -> ComposeResult:
        """The text."""
        yield Area(harmless(self.text), compact=True, soft_wrap=True, tab_behavior="focus")

    def on_mount(self) -> None:
        """The cursor stands at the end."""
        area = self.query_one(TextArea)
        area.move_cursor(area.document.end)

    def action_keep(self) -> None:
        """Give the text."""
        self.dismiss(self.query_one(TextArea).text.strip())


class Pick(Dialog):
    """One of a list, found by typing a few of its letters; `entries` are (what is given, what is shown)."""

    BINDINGS = [Binding("up", "move(-1)", show=False, priority=True), Binding("down", "move(1)", show=False, priority=True)]

    def __init__(self, title: str, entries: Sequence[tuple[str, str]], first: str = "") -> None:
        super().__init__(title, "type to find   ↑ ↓ choose   Enter take   Esc back")
        self.entries, self.first = list(entries), first

    def inside(self) -> ComposeResult:
        """What is typed, and what fits it."""
        yield Field(compact=True, placeholder="a few letters")
        yield OptionList(compact=True, markup=False)

    def on_mount(self) -> None:
        """All of it, at the first one."""
        self.query_one(OptionList).can_focus = False
        self._fill("")
        names = [name for name, _ in self.entries]
        self.query_one(OptionList).highlighted = names.index(self.first) if self.first in names else 0

    @on(Input.Changed)
    def find(self, event: Input.Changed) -> None:
        """Those that fit, best first."""
        self._fill(event.value.strip())

    @on(Input.Submitted)
    def take(self) -> None:
        """Give the one that is marked."""
        options = self.query_one(OptionList)
        if options.highlighted is not None:
            self.dismiss(options.get_option_at_index(options.highlighted).id)

    @on(OptionList.OptionSelected)
    def clicked(self, event: OptionList.OptionSelected) -> None:
        """With the mouse."""
        self.dismiss(event.option.id)

    def action_move(self, by: int) -> None:
        """Mark the next or the one before."""
        options = self.query_one(OptionList)
        options.action_cursor_down() if by > 0 else options.action_cursor_up()

    def _fill(self, typed: str) -> None:
        matcher = Matcher(typed)
        scored = [(matcher.match(shown) if typed else 1.0, name, shown) for name, shown in self.entries]
        fitting = sorted((each for each in scored if each[0] > 0), key=lambda each: -each[0])
        options = self.query_one(OptionList)
        options.set_options([Option(Content(harmless(shown)), id=name) for _, name, shown in fitting])
        options.highlighted = 0 if fitting else None
