"""The hand-offs as a list, and a conversation that was handed over as text. Knows how they look; takes and answers nothing."""

from typing import Any

from textual.content import Content
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from agent.signs import harmless
from agent.surfaces.tui import actions
from agent.surfaces.tui.handoffs import since


class HandoffList(OptionList):
    """Oldest first; `shown` is the one under the cursor. Its keys are its own: in the answer below a letter is a letter."""

    part = "desk"
    BINDINGS = actions.bindings("desk", only=("take", "release", "undo"), call="screen.{name}", priority=True)

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id, markup=False)
        self.items: list[dict[str, Any]] = []
        self._drawn: list[str] = []

    @property
    def shown(self) -> dict[str, Any] | None:
        """A hand-off as `Store.handoffs` gives it."""
        return self.items[self.highlighted] if self.highlighted is not None and self.highlighted < len(self.items) else None

    def fill(self, items: list[dict[str, Any]], author: str, wanted: str | None = None) -> None:
        """Show these, with the cursor where it was or on the turn `wanted`; nothing moves where nothing looks different."""
        lines = [line(each, author) for each in items]
        drawn = [str(each.markup) for each in lines]
        if drawn == self._drawn and [each["turn"] for each in items] == [each["turn"] for each in self.items] and not wanted:
            self.items = items
            return
        shown, at, turns = self.shown, self.highlighted or 0, [each["turn"] for each in items]
        wanted = wanted or (shown["turn"] if shown else "")
        self.items, self._drawn = items, drawn
        self.set_options([Option(each) for each in lines])
        self.highlighted = (turns.index(wanted) if wanted in turns else min(at, len(items) - 1)) if items else None


def line(each: dict[str, Any], author: str) -> Content:
    """Two lines: how long and why, then what was said last; and who has it."""
    who = "" if each["status"] == "waiting" else "yours" if each["by"] == author else f"{_one(each['by'])} has it"
    asked = each["conversation"][-1]["question"] if each["conversation"] else ""
    return Content.assemble((f"{since(each['created']):<7}", "$primary"), (f"{who}  " if who else "", "bold $accent"),
                            reason(each), "\n", (f"  {_one(asked)}", "$foreground 60%"))


def reason(each: dict[str, Any]) -> str:
    """Why it waits, in words."""
    return _one(each["reason"]).replace("_", " ") or "no reason given"


def conversation(each: dict[str, Any], turns: list[dict[str, Any]]) -> Content:
    """All that was said, with the place where it was handed over; without rows as far as the hand-off itself tells."""
    if not turns:
        return Content("\n\n").join(_said(row["question"], row["reply"]) for row in each["conversation"])
    parts = []
    for row in turns:
        notes = [f"{_one(one['author']) or 'somebody'}, {one['kind'].replace('_', ' ')}: {harmless(one['value'] or '')}"
                 for one in row["feedback"]]
        error = f"stopped: {row['error']}" if row["error"] else ""
        parts.append(_said(row["question"], row["reply"], error, *(note.removesuffix(": ") for note in notes)))
        if row["id"] == each["turn"]:
            wished = f", wished by {_one(each['author'])}" if each["author"] else ""
            parts.append(Content.styled(f"handed over here: {reason(each)}{wished}", "bold $accent"))
    return Content("\n\n").join(parts)


def _said(question: str, reply: str, *notes: str) -> Content:
    said = Content.assemble((harmless(question), "bold $primary"), f"\n{harmless(reply)}")
    told = [note for note in notes if note]
    return Content.assemble(said, ("\n" + "\n".join(told), "$foreground 60%")) if told else said


def _one(text: str) -> str:
    return " ".join(harmless(text).split())
