"""Words in all conversations, found while they are typed."""

from typing import TYPE_CHECKING, Any

from textual import on, work
from textual.app import ComposeResult
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from agent.signs import harmless
from agent.surfaces.tui import actions
from agent.surfaces.tui.widgets.fields import Field
from agent.surfaces.tui.widgets.keyline import KeyLine

if TYPE_CHECKING:
    from agent.surfaces.tui.app import RetuneApp

MOST = 50


class SearchScreen(Screen[None]):
    """A line to type in, and below it what was found, best first."""

    app: "RetuneApp"
    part = "search"
    BINDINGS = actions.bindings("search", priority=True)

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[dict[str, Any]] = []

    def compose(self) -> ComposeResult:
        """Title, line, list, keys."""
        yield Static("Search in all conversations", id="head", markup=False)
        yield Field(placeholder="words", compact=True, id="words")
        yield OptionList(id="list", markup=False)
        yield KeyLine(id="keys")

    def on_mount(self) -> None:
        """The list is moved through from the line."""
        self.query_one(OptionList).can_focus = False
        self.query_one(Input).focus()

    @on(Input.Changed)
    def typed(self, event: Input.Changed) -> None:
        """Search again."""
        self.find(event.value)

    @work(exclusive=True)
    async def find(self, words: str) -> None:
        """What has all words; a later search replaces this one."""
        self.rows = await self.app.backstage.call(lambda: self.app.store.search(words, limit=MOST)) if words.strip() else []
        options = self.query_one(OptionList)
        options.set_options([Option(_lines(row, words), id=row["turn"]) for row in self.rows])
        options.highlighted = 0 if self.rows else None
        said = f"{len(self.rows)}{' or more' if len(self.rows) == MOST else ''} found" if self.rows else "nothing found"
        self.query_one("#head", Static).update("Search in all conversations" + (f"   {said}" if words.strip() else ""))
        self.refresh_bindings()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Nothing can be done to an empty list."""
        return bool(self.rows) if action in ("open", "down", "up") else True

    @on(OptionList.OptionSelected)
    def clicked(self) -> None:
        """With the mouse."""
        self.action_open()

    def action_down(self) -> None:
        """Mark the next."""
        self.query_one(OptionList).action_cursor_down()

    def action_up(self) -> None:
        """Mark the one before."""
        self.query_one(OptionList).action_cursor_up()

    def action_open(self) -> None:
        """The conversation, at that answer."""
        at = self.query_one(OptionList).highlighted
        if at is not None and at < len(self.rows):
            row = self.rows[at]
            self.app.pop_screen()
            self.app.chat.resume(row["session"], row["domain"], row["turn"])

    def action_back(self) -> None:
        """Back to the chat."""
        self.app.pop_screen()


def _lines(row: dict[str, Any], words: str) -> Content:
    said, question = Content(harmless(row["snippet"]).replace("\n", " ")), harmless(row["question"]).replace("\n", " ")
    for word in words.split():
        said = said.highlight_regex(f"(?i){_literal(word)}", style="bold $accent")
    head = (f"{row['created'][:10]}  {row['domain']}  ", "$foreground 60%")
    return Content.assemble(head, (question[:100], "bold"), "\n  ", said)


def _literal(word: str) -> str:
    import re

    return re.escape(word)
