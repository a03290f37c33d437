"""The list of what waits for review: rows, then proposed intents, and which of them were skipped this time.

Knows their order and what is looked at; decides nothing.
"""

from collections.abc import Sequence
from typing import Any

from textual.content import Content
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from agent.surfaces.tui.reviewing import settled
from agent.surfaces.tui.widgets import row as drawn


class RowList(OptionList):
    """`shown` is the `tuning.rows.Waiting` or `tuning.proposals.Proposal` under the cursor."""

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id, markup=False)
        self.items: list[Any] = []
        self.skipped: set[str] = set()

    @property
    def shown(self) -> Any | None:
        """What keys decide about."""
        return self.items[self.highlighted] if self.highlighted is not None and self.highlighted < len(self.items) else None

    def fill(self, items: Sequence[Any], wanted: str | None = None) -> None:
        """Other things wait now. What is looked at stays until a key moves on, even where it waits no longer.

        `wanted`: the key of what is to be looked at instead; empty: what is looked at goes too if it waits no longer.
        """
        shown, at, items = self.shown, self.highlighted or 0, list(items)
        keys = [key(each) for each in items]
        if wanted is None and hasattr(shown, "row") and key(shown) not in keys:
            items.insert(min(at, len(items)), settled(shown))
            keys = [key(each) for each in items]
        wanted = wanted or (key(shown) if shown is not None else "")
        self._put(items, keys.index(wanted) if wanted in keys else at)

    def drop(self, each: Any) -> None:
        """It was decided about: the next takes its place."""
        gone = next((number for number, one in enumerate(self.items) if key(one) == key(each)), None)
        if gone is not None:
            at = self.highlighted or 0
            self._put([*self.items[:gone], *self.items[gone + 1:]], at - (gone < at))

    def skip(self) -> bool:
        """The next that was not skipped, at the end from the beginning; False if there is none."""
        at = self.highlighted or 0
        self.skipped.add(key(self.items[at]))
        self.replace_option_prompt_at_index(at, self._line(self.items[at]))
        order = [*range(at + 1, len(self.items)), *range(at)]
        left = next((number for number in order if key(self.items[number]) not in self.skipped), None)
        self.highlighted = (at + 1) % len(self.items) if left is None else left
        return left is not None

    def _put(self, items: list[Any], at: int) -> None:
        self.items = items
        self.set_options([Option(self._line(each)) for each in items])
        self.highlighted = min(at, len(items) - 1) if items else None

    def _line(self, each: Any) -> Content:
        skipped = key(each) in self.skipped
        return drawn.line(each, skipped) if hasattr(each, "row") else drawn.proposal_line(each, skipped)


def key(each: Any) -> str:
    """What stays the same when the queue is built again."""
    return each.row.id if hasattr(each, "row") else f"intent {each.name}"
