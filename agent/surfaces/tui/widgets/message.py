"""One question with its answer: streams Markdown, can be focused, says below what served it."""

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.timer import Timer
from textual.widgets import Markdown, Static

from agent.signs import harmless
from agent.surfaces.tui import actions, answers, marks

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
        return self.query_one(Markdown).source + "".join(self._pieces)

    def compose(self) -> ComposeResult:
        """Question, answer, what was noted, and what served it."""
        yield Static(harmless(self.question), classes="question", markup=False)
        yield Markdown(harmless(self.row["reply"]) if self.row else "", open_links=False, classes="reply")
        yield Static("", classes="note", markup=False)
        yield Static(foot(self.row) if self.row else "…", classes="foot", markup=False)

    def on_mount(self) -> None:
        """A logged turn may have failed."""
        logged = (self.row or {}).get("error")
        if why := self.error or ("stopped" if logged == "cancelled" else logged):
            self._failed(why)
        self.note(self.noted)

    def wait(self, why: str) -> None:
        """Say what the answer waits for."""
        self.query_one(".foot", Static).update(why)

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
            self.query_one(".foot", Static).update(foot(row))
        self.refresh_bindings()

    async def fail(self, why: str, row: dict[str, Any] | None = None) -> None:
        """The turn failed or was stopped; what was said stays."""
        await self.finish(row)
        self._failed(why)

    def note(self, text: str) -> None:
        """One line below the answer, above what was taught; empty takes it away."""
        self.noted = text
        self.mark()

    def mark(self) -> None:
        """Show what was noted and what was taught, as the row has it now."""
        for line in self.query(".note").results(Static):
            text = "\n".join(filter(None, (harmless(self.noted), marks.told(self.row, getattr(self.app, "author", "")))))
            line.update(text)
            line.set_class(bool(text), "told")

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
        self.query_one(".foot", Static).update(harmless(why if why == "stopped" else f"No answer: {why}"))


def foot(row: dict[str, Any]) -> str:
    """One line under an answer: what it was about and what served it."""
    intent = (row["intent"] or "").replace("_", " ")
    sure = f" {row['confidence']:.0%}" if intent and row.get("confidence") is not None else ""
    parts = [intent + sure, row["state"], row["bundle"]]
    return harmless(" · ".join(part for part in (*parts, *row["flags"]) if part))
