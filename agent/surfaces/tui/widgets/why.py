"""The why panel: what an answer was made from. Shows a turn's row, and the turn itself where it ran in this process.

Knows no store and no model; what it says is worked out in `reasons`.
"""

from typing import TYPE_CHECKING, Any

from textual import events
from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Static

from agent.errors import RetuneError
from agent.signs import harmless
from agent.surfaces.tui import actions, reasons
from agent.surfaces.tui.answers import Deed
from agent.types import Passage

if TYPE_CHECKING:
    from agent.domain import Domain
    from agent.surfaces.tui.widgets.message import Message

NARROW = 100
"""Columns below which the panel has no room beside the conversation and opens as a screen."""


class Source(Static, can_focus=True):
    """One passage; Enter or a click opens its article."""

    part = "why"
    BINDINGS = actions.bindings("why")

    def __init__(self, passage: Passage | None, id: str, message: "Message") -> None:
        lines = [(id, "bold"), ("\nis among the articles no longer", "$foreground 60%")] if passage is None else [
            (harmless(f"{passage.title} › {passage.heading}"), "bold"), (harmless(f"\n{passage.source}"), "$foreground 60%"),
            (f"\n{harmless(passage.text)}", "")]
        super().__init__(Content.assemble(*lines), markup=False)
        self.passage, self.message = passage, message

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """What is gone cannot be opened."""
        return action != "open" or self.passage is not None

    async def action_open(self) -> None:
        """Read the article."""
        if self.passage:
            self.app.run_worker(read(self.message, self.passage), group="deeds")

    async def on_click(self, event: events.Click) -> None:
        """As Enter."""
        await self.action_open()


class Why(VerticalScroll):
    """`show(message)` tells about an answer; the same one again only if something new is known of it."""

    part = "why"

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self._shown: tuple[Any, ...] = ("nothing",)

    def compose(self) -> ComposeResult:
        """Intent and slots, passages, the rest."""
        yield Static("", classes="before", markup=False)
        yield Vertical(classes="sources")
        yield Static("", classes="after", markup=False)

    async def show(self, message: "Message | None") -> None:
        """Tell about this answer; None: there is none yet."""
        domain = domain_of(message) if message else None
        row = message.row if message else None
        now = (message, row, domain)
        if len(now) == len(self._shown) and all(new is old for new, old in zip(now, self._shown)):
            return
        self._shown = now
        before, after = self.query_one(".before", Static), self.query_one(".after", Static)
        found = [] if message is None or row is None else passages_of(message, domain)
        async with self.batch():
            if row is None:
                before.update(Content.styled("What an answer was made from is told here, once it is there.", "$foreground 60%"))
                after.update("")
            else:
                before.update(reasons.drawn([*reasons.intent(row), *reasons.slots(row, domain)]))
                rest = (reasons.tool, reasons.rules, reasons.served, reasons.times)
                after.update(reasons.drawn([line for part in rest for line in part(row)]))
            sources = self.query_one(".sources", Vertical)
            await sources.remove_children()
            if message and found:
                await sources.mount(Static(reasons.heading("Passages"), markup=False),
                                    *(Source(passage, key, message) for key, passage in found))
        self.scroll_home(animate=False)


def domain_of(message: "Message") -> "Domain | None":
    """The domain of an answer, if its agent is loaded."""
    name = (message.row or {}).get("domain")
    return next((agent.domain for agent in message.app.backstage.loaded().values() if agent.domain.name == name), None)


def passages_of(message: "Message", domain: "Domain | None") -> list[tuple[str, Passage | None]]:
    """(id, passage) as the turn saw it, else as the articles have it now, None where they have it no longer."""
    whole = {passage.id: passage for passage in (*(domain.passages if domain else ()),
                                                 *(message.turn.passages if message.turn else ()))}
    return [(key, whole.get(key)) for key in (message.row or {}).get("passages") or ()]


async def read(message: "Message", passage: Passage) -> None:
    """Open the passage's article."""
    from agent.surfaces.tui.screens.article import ArticleScreen, text_of

    domain = domain_of(message)
    text = await message.app.backstage.call(text_of, passage, domain and domain.folder, domain.passages if domain else ())
    await message.app.push_screen(ArticleScreen(passage.title, passage.source, text, passage.heading))


async def open_article(message: "Message") -> None:
    """The article that the answer came from; which, is asked where there are several."""
    from agent.surfaces.tui.screens.dialogs import Pick
    from agent.surfaces.tui.teaching import known

    found: dict[str, Any] = dict(passages_of(message, domain_of(message)))
    if None in found.values():  # its agent is not loaded
        try:
            domain, _ = await message.app.backstage.call(known, message.app, message.row["domain"])
            found = dict(passages_of(message, domain))
        except RetuneError as error:
            message.app.notify(str(error), severity="error", markup=False)
    there = {key: passage for key, passage in found.items() if passage}
    if not there:
        message.app.notify("What this answer came from is among the articles no longer.")
        return
    key = next(iter(there))
    if len({key.rpartition("#")[0] for key in there}) > 1:
        entries = [(key, f"{passage.title} › {passage.heading}") for key, passage in there.items()]
        key = await message.app.push_screen_wait(Pick("Read", entries))
    if key:
        await read(message, there[key])


async def why(message: "Message") -> None:
    """What this answer was made from."""
    await message.screen.action_why()


DEEDS = {"why": Deed(why, lambda message: message.row is not None),
         "open": Deed(open_article, lambda message: bool(message.row and message.row["passages"]))}
