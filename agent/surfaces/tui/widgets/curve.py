"""Losses by step as dots: a plot of text, eight dots a character (Braille), held-out losses as marks of their own.

Written here, as it is sixty lines that draw the same everywhere; plotting libraries for terminals bring canvases and colours.
"""

from collections.abc import Sequence

from textual.content import Content
from textual.widget import Widget

from agent.signs import harmless

DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""Of a Braille character, [row][column]; added to U+2800."""
MARK = "●"
Points = Sequence[tuple[float, float]]


class Curve(Widget, can_focus=False):
    """`show` takes new points; six lines high, with its title above and steps below."""

    HIGH = 6

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self.headline, self.loss, self.held_out, self.end = "", (), (), 0.0
        self.styles.height = self.HIGH + 2

    def show(self, title: str, loss: Points, held_out: Points, end: float = 0.0) -> None:
        """`end`: the last step there will be; 0: the last there is."""
        self.headline, self.loss, self.held_out, self.end = title, loss, held_out, end
        self.refresh()

    def render(self) -> Content:
        """Title, plot with its scale, steps."""
        said = [(harmless(self.headline), "bold"), ("  loss ", "$foreground 60%"), ("⠉⠒⠤", "$primary")]
        if self.held_out:
            said += [("  held out ", "$foreground 60%"), (f"{MARK} {self.held_out[-1][1]:.3g}", "$accent")]
        lines = [Content.assemble(*said)]
        both = [*self.loss, *self.held_out]
        if not both:
            return Content("\n").join([*lines, Content.styled("no step yet", "$foreground 60%")])
        low, high = min(y for _, y in both), max(y for _, y in both)
        edge = max(len(f"{value:.3g}") for value in (low, high)) + 1
        width = max(8, self.size.width - edge - 1)
        for number, row in enumerate(plot(self.loss, self.held_out, width, self.HIGH, self.end)):
            scale = f"{high:.3g}" if number == 0 else f"{low:.3g}" if number == self.HIGH - 1 else ""
            pieces = [(f"{scale:>{edge}} ", "$foreground 60%")]
            pieces += [(sign, "bold $accent" if sign == MARK else "$primary") for sign in row]
            lines.append(Content.assemble(*pieces))
        last = max(self.end, *(x for x, _ in both))
        lines.append(Content.styled(f"{'':>{edge}} {'0':<{width - len(f'{last:.0f}') - 6}} step {last:.0f}", "$foreground 60%"))
        return Content("\n").join(lines)


def plot(line: Points, marks: Points, width: int, height: int, end: float = 0.0) -> list[str]:
    """`height` lines of `width` signs: the line as dots, marks over it; x from 0 to `end` or the last one.

    Points in one column of dots are drawn as their mean.
    """
    both = [*line, *marks]
    if not both:
        return [" " * width] * height
    low, high = min(y for _, y in both), max(y for _, y in both)
    last = max(end, *(x for x, _ in both)) or 1.0
    wide, tall = 2 * width - 1, 4 * height - 1

    def place(x: float, y: float) -> tuple[int, int]:
        return round(x / last * wide), round((high - y) / (high - low) * tall) if high > low else tall // 2

    columns: dict[int, list[float]] = {}
    for x, y in line:
        columns.setdefault(round(x / last * wide), []).append(y)
    dots: set[tuple[int, int]] = set()
    before: tuple[int, int] | None = None
    for column, values in sorted(columns.items()):
        at = (column, place(0, sum(values) / len(values))[1])
        dots |= _between(before or at, at)
        before = at
    cells = [[0] * width for _ in range(height)]
    for x, y in dots:
        cells[y // 4][x // 2] |= DOTS[y % 4][x % 2]
    rows = [[chr(0x2800 + cell) if cell else " " for cell in row] for row in cells]
    for x, y in (place(*mark) for mark in marks):
        rows[y // 4][x // 2] = MARK
    return ["".join(row) for row in rows]


def _between(start: tuple[int, int], end: tuple[int, int]) -> set[tuple[int, int]]:
    """The dots from one to the other, both included."""
    steps = max(abs(end[0] - start[0]), abs(end[1] - start[1]), 1)
    return {(round(start[0] + (end[0] - start[0]) * step / steps), round(start[1] + (end[1] - start[1]) * step / steps))
            for step in range(steps + 1)}
