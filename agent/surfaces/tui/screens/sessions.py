"""The list of conversations: open, name, lay away."""

from typing import TYPE_CHECKING

from textual import on, work
from textual.app import ComposeResult
from textual.content import Content
from textual.screen import Screen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from agent.signs import harmless
from agent.surfaces.tui import actions
from agent.surfaces.tui.screens.dialogs import Line
from agent.surfaces.tui.talk import Kept, kept
from agent.surfaces.tui.widgets.keyline import KeyLine

if TYPE_CHECKING:
    from agent.surfaces.tui.app import RetuneApp


class SessionsScreen(Screen[None]):
    """Newest first; those laid away are a second list."""

    app: "RetuneApp"
    part = "sessions"
    BINDINGS = actions.bindings("sessions", priority=True)

    def __init__(self) -> None:
        super().__init__()
        self.archived = False
        self.rows: list[Kept] = []

    def compose(self) -> ComposeResult:
        """Title, list, keys."""
        yield Static("Conversations", id="head", markup=False)
        yield OptionList(id="list", markup=False)
        yield KeyLine(id="keys")

    def on_mount(self) -> None:
        """Read them."""
        self.read()

    @work(exclusive=True)
    async def read(self) -> None:
        """Read them again; what was marked stays marked."""
        marked = self.marked
        self.rows = await self.app.backstage.call(lambda: kept(self.app.store, self.archived))
        options = self.query_one(OptionList)
        options.set_options([Option(_line(row), id=str(number)) for number, row in enumerate(self.rows)])
        names = [row.session for row in self.rows]
        options.highlighted = (names.index(marked.session) if marked and marked.session in names else 0) if names else None
        none = "Nothing was laid away." if self.archived else "No conversation yet: Esc, and ask something."
        title = "Conversations laid away" if self.archived else "Conversations"
        self.query_one("#head", Static).update(f"{title}   {len(names) or none}")
        options.focus()
        self.refresh_bindings()

    @property
    def marked(self) -> Kept | None:
        """The conversation under the cursor."""
        at = self.query_one(OptionList).highlighted
        return self.rows[at] if at is not None and at < len(self.rows) else None

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Nothing can be done to an empty list."""
        return self.marked is not None if action in ("open", "rename", "archive") else True

    @on(OptionList.OptionSelected)
    def clicked(self) -> None:
        """With the mouse."""
        self.action_open()

    def action_open(self) -> None:
        """Go on with it."""
        if row := self.marked:
            self.app.pop_screen()
            self.app.chat.resume(row.session, row.domain)

    def action_new(self) -> None:
        """A new one."""
        self.app.pop_screen()
        self.app.chat.action_new()

    @work(group="keeping")
    async def action_rename(self) -> None:
        """Ask for its name; an empty one gives the first question back."""
        if row := self.marked:
            title = await self.app.push_screen_wait(Line("Name of the conversation", row.title))
            if title is not None:
                for id in row.ids:
                    await self.app.backstage.call(self.app.store.rename, id, title)
                self.read()

    @work(group="keeping")
    async def action_archive(self) -> None:
        """Lay it away, or fetch it back."""
        if row := self.marked:
            for id in row.ids:
                await self.app.backstage.call(self.app.store.archive, id, not row.archived)
            self.notify(f"{'Fetched back' if row.archived else 'Laid away'}: {harmless(row.title)[:60]}", markup=False)
            self.read()

    def action_archived(self) -> None:
        """The other list."""
        self.archived = not self.archived
        self.read()

    def action_back(self) -> None:
        """Back to the chat."""
        self.app.pop_screen()


def _line(row: Kept) -> Content:
    day = row.updated[:16].replace("T", " ")
    title = harmless(row.title)[:90] or "no name"
    turns = f"{row.turns} turn{'s' if row.turns > 1 else ''}"
    domains = f"  {', '.join(row.domains)}"
    return Content.assemble((f"{day}  {turns:<10}", "$foreground 60%"), title, (domains, "$foreground 60%"))
