"""One question with its answer: streams Markdown, can be focused, says below what served it.

While it is written a message is a widget for each of its parts and paragraphs; shown again later it is one sheet.
"""

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.geometry import Size
from textual.reactive import Reactive
from textual.timer import Timer
from textual.widgets import Markdown, Static

from agent.signs import harmless
from agent.surfaces.tui import actions, answers, marks, markup
from agent.surfaces.tui.widgets.reply import Reply
from agent.surfaces.tui.widgets.sheet import Sheet

if TYPE_CHECKING:
    from agent.types import Turn

EVERY_S = 0.05  # pieces are gathered so long: faster than a person reads, slow enough to leave time for keys


@dataclass(frozen=True, slots=True)
class Said:
    """What a message shows, kept while it is too far away to be a widget."""

    question: str
    row: dict[str, Any] | None = None
    turn: "Turn | None" = None
    error: str = ""
    noted: str = ""


class Message(Vertical, can_focus=True):
    """`say` adds to the answer while it is written; `finish` or `fail` ends it. `row` is the turn, once it is known."""

    part = "answer"
    virtual_size = Reactive(Size(0, 0))  # it never scrolls, see `reply`
    BINDINGS = actions.bindings("answer", call="answer('{name}')")

    def __init__(self, said: Said, running: bool = False) -> None:
        super().__init__()
        self.question, row = said.question, said.row
        """As the person wrote it."""
        self.row = row
        """The turn by the names of the store's table, with "feedback"; None until it is logged."""
        self.turn: Turn | None = said.turn
        """The turn itself where it ran in this process: with its passages in full."""
        self.turn_id: str | None = row["id"] if row else None
        """Known as soon as the message is routed."""
        self.running = running
        self.error = said.error
        self.noted = said.noted
        self.codes_copied = 0
        self.deeds = asyncio.Lock()
        """What changes the turn's marks goes one after another."""
        self._pieces: list[str] = []
        self._stream: Any = None
        self._timer: Timer | None = None

    @property
    def said(self) -> Said:
        """All that is needed to show it again."""
        return Said(self.question, self.row, self.turn, self.error, self.noted)

    @property
    def reply(self) -> str:
        """What has been said so far."""
        written = next(iter(self.query(Markdown)), None)
        settled = harmless(self.row["reply"]) if self.row else ""
        return written.source + "".join(self._pieces) if written else settled

    def compose(self) -> ComposeResult:
        """Question, answer, what was noted, and what served it."""
        if self.running:
            yield Static(harmless(self.question), classes="question", markup=False)
            yield Reply("", open_links=False, classes="reply")
            yield Static("", classes="note", markup=False)
            yield Static("…", classes="foot", markup=False)
        else:
            yield Sheet(self.draw)

    def draw(self, width: int) -> list[Content]:
        """The same as lines for a width, once it is settled."""
        lines = Content.styled(harmless(self.question), "bold $primary").wrap(width) + markup.lines(self.reply, width)
        if self.told:
            lines += Content.styled(self.told, "$success").wrap(width)
        if self.error:
            return lines + Content.styled(harmless(self._failure), "$error").wrap(width)
        return lines + (Content.styled(foot(self.row), "$foreground 60%").wrap(width) if self.row else [])

    def on_mount(self) -> None:
        """A logged turn may have failed."""
        logged = (self.row or {}).get("error")
        if why := self.error or ("stopped" if logged == "cancelled" else logged):
            self._failed(why)
        self.note(self.noted)

    def wait(self, why: str) -> None:
        """Say what the answer waits for."""
        self._below(why)

    def say(self, text: str) -> None:
        """A further piece of the answer; shown at the next tick."""
        self._pieces.append(text)
        if self._stream is None:
            self._stream = Markdown.get_stream(self.query_one(Markdown))
            self._timer = self.set_interval(EVERY_S, self.flush)

    async def flush(self) -> None:
        """Show what was gathered."""
        if self._pieces and self._stream is not None:
            text, self._pieces = "".join(self._pieces), []
            await self._stream.write(harmless(text))

    async def finish(self, row: dict[str, Any] | None, turn: "Turn | None" = None) -> None:
        """The turn is over; without a row it could not be logged."""
        await self._end()
        self.row, self.turn, self.running = row, turn, False
        if row:
            self.turn_id = row["id"]
            self._below(foot(row))
        self.refresh_bindings()

    async def fail(self, why: str, row: dict[str, Any] | None = None) -> None:
        """The turn failed or was stopped; what was said stays."""
        await self.finish(row)
        self._failed(why)

    def note(self, text: str) -> None:
        """One line below the answer, above what was taught; empty takes it away."""
        self.noted = text
        self.mark()

    @property
    def told(self) -> str:
        """What was noted and what was taught, a line each."""
        return "\n".join(filter(None, (harmless(self.noted), marks.told(self.row, getattr(self.app, "author", "")))))

    def mark(self) -> None:
        """Show what was noted and what was taught, as the row has it now."""
        for line in self.query(".note").results(Static):
            line.update(self.told)
            line.set_class(bool(self.told), "told")
        self._renew()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """What nobody does yet, or cannot be done to this answer, has no key."""
        return action != "answer" or answers.can(str(parameters[0]), self)

    def action_answer(self, name: str) -> None:
        """Do something to this answer, see `answers.DEEDS`."""
        answers.do(name, self)

    def on_markdown_link_clicked(self, event: Markdown.LinkClicked) -> None:
        """A link never opens by itself: say where it would lead."""
        event.stop()
        self.app.notify(harmless(event.href), title="This link leads to", markup=False)

    async def _end(self) -> None:
        if self._timer is not None:
            self._timer.stop()
        await self.flush()
        if self._stream is not None:
            await self._stream.stop()
            self._stream = self._timer = None

    def _failed(self, why: str) -> None:
        self.error = why
        self.add_class("failed")
        self._below(harmless(self._failure))

    @property
    def _failure(self) -> str:
        return self.error if self.error == "stopped" else f"No answer: {self.error}"

    def _below(self, text: str) -> None:
        for line in self.query(".foot").results(Static):
            line.update(text)
        self._renew()

    def _renew(self) -> None:
        for sheet in self.query(Sheet):
            sheet.renew()


def foot(row: dict[str, Any]) -> str:
    """One line under an answer: what it was about and what served it."""
    intent = (row["intent"] or "").replace("_", " ")
    sure = f" {row['confidence']:.0%}" if intent and row.get("confidence") is not None else ""
    parts = [intent + sure, row["state"], row["bundle"]]
    return harmless(" · ".join(part for part in (*parts, *row["flags"]) if part))
