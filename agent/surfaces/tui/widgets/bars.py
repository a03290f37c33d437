"""Differences as bars to the left and right of zero, each with its number, so that colour alone says nothing."""

from collections.abc import Sequence

from textual.content import Content
from textual.widget import Widget

from agent.signs import harmless
from agent.surfaces.tui.shelf import Moved

PARTS = " ▏▎▍▌▋▊▉█"


class Bars(Widget, can_focus=False):
    """One line for each slice, in the order given."""

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self.moved: Sequence[Moved] = ()

    def show(self, moved: Sequence[Moved]) -> None:
        """Take the place of what was shown."""
        self.moved = moved
        self.styles.height = len(moved)
        self.refresh()

    def render(self) -> Content:
        """Name, rows, bar, difference and its interval in points."""
        most = max((abs(each.delta) for each in self.moved), default=0) or 1.0
        name = min(max((len(each.name) for each in self.moved), default=0), max(16, self.size.width - 48))
        half = max(3, (self.size.width - name - 34) // 2)
        return Content("\n").join(_line(each, most, name, half) for each in self.moved)


def _line(moved: Moved, most: float, name: int, half: int) -> Content:
    left, right = bar(moved.delta / most, half)
    colour = "$error" if moved.delta < 0 else "$success"
    sure = "bold " if moved.low > 0 or moved.high < 0 else ""
    shown = harmless(moved.name)
    shown = shown if len(shown) <= name else shown[:name - 1] + "…"
    return Content.assemble(f"{shown:<{name}}", (f"{moved.n:>5} ", "$foreground 60%"), (left, colour), ("│", "$foreground 60%"),
                            (right, colour), (f" {100 * moved.delta:+6.1f}", f"{sure}{colour}"),
                            (f"  {interval(moved)}", "$foreground 60%"))


def interval(moved: Moved) -> str:
    """The 95 % interval of the difference, in points."""
    return f"{100 * moved.low:+.1f} to {100 * moved.high:+.1f}"


def bar(share: float, half: int) -> tuple[str, str]:
    """What stands left and right of zero, `half` signs each; share from -1 to 1.

    To the left whole and half blocks alone: terminals have no finer ones that begin at the right.
    """
    if share >= 0:
        eighths = round(min(share, 1.0) * half * 8)
        return " " * half, ("█" * (eighths // 8) + PARTS[eighths % 8].strip()).ljust(half)
    halves = round(min(-share, 1.0) * half * 2)
    return (("▐" if halves % 2 else "") + "█" * (halves // 2)).rjust(half), " " * half
