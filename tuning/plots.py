"""Small plots as inline SVG: curves, a reliability diagram, a forest of differences. Numbers in, markup out.

Colours come from the page's classes (`a` champion, `b` challenger, `axis`, `grid`), so a plot is readable on light and dark.
Each plot has a title for those who do not see it; all text is escaped.
"""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

WIDE, HIGH, LEFT, BOTTOM, TOP = 520, 260, 48, 34, 14  # units of the view box; a plot is scaled to its column


def curves(title: str, lines: Mapping[str, Sequence[tuple[float, float]]], x_name: str = "step", y_name: str = "loss") -> str:
    """Lines of (x, y) by name; the first is drawn in the champion's colour, the second in the challenger's, with points."""
    points = [point for line in lines.values() for point in line if math.isfinite(point[1])]
    if not points:
        return ""
    right, top = max(x for x, _ in points) or 1, max(y for _, y in points) or 1

    def place(x: float, y: float) -> str:
        return f"{LEFT + (WIDE - LEFT - 10) * x / right:.1f},{HIGH - BOTTOM - (HIGH - BOTTOM - TOP) * y / top:.1f}"

    drawn = [_grid(right, top, x_name, y_name)]
    for style, line in zip("ab", lines.values()):
        kept = [place(x, y) for x, y in line if math.isfinite(y)]
        drawn.append(f'<polyline class="{style}" points="{" ".join(kept)}"/>')
        if len(kept) <= 40:
            drawn += [f'<circle class="{style} dot" cx="{at.split(",")[0]}" cy="{at.split(",")[1]}" r="3"/>' for at in kept]
    return _svg(title, WIDE, HIGH, drawn) + _legend(list(lines))


def reliability(title: str, champion: Sequence[Mapping[str, Any]], challenger: Sequence[Mapping[str, Any]]) -> str:
    """Share of right rows over confidence, from `metrics.reliability`; on the diagonal confidence can be taken at its word."""
    side, drawn = HIGH, [_grid(1, 1, "confidence", "share right", HIGH + 20)]
    scale = side + 20 - LEFT - 10

    def place(entry: Mapping[str, Any]) -> tuple[float, float]:
        return LEFT + scale * entry["confidence"], side - BOTTOM - (side - BOTTOM - TOP) * entry["right"]

    drawn.append(f'<line class="axis dash" x1="{LEFT}" y1="{side - BOTTOM}" x2="{LEFT + scale}" y2="{TOP}"/>')
    for style, entries in (("a", champion), ("b", challenger)):
        largest = max((entry["n"] for entry in entries), default=1)
        for entry in entries:
            x, y = place(entry)
            told = f'{entry["n"]} rows, confidence {entry["confidence"]:.2f}, right {entry["right"]:.2f}'
            drawn.append(f'<circle class="{style} dot" cx="{x:.1f}" cy="{y:.1f}" '
                         f'r="{3 + 6 * math.sqrt(entry["n"] / largest):.1f}"><title>{told}</title></circle>')
        drawn.append(f'<polyline class="{style}" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in map(place, entries))}"/>')
    return _svg(title, side + 20, side, drawn) + _legend(["champion", "challenger"])


def forest(title: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """One line a slice: its difference ("delta") as a point on its interval ("low" to "high"), around zero.

    rows: {"name", "n", "delta", "low", "high"}. An interval that does not touch zero is drawn in the colour of its side.
    """
    if not rows:
        return ""
    reach = max(0.05, *(min(1.0, max(abs(row["low"]), abs(row["high"]))) for row in rows))
    line, name_wide, wide = 24, 252, WIDE + 40
    middle, half = (name_wide + wide) / 2, (wide - name_wide) / 2 - 12
    bottom = TOP + line * len(rows)

    def x(value: float) -> float:
        return middle + half * max(-1.0, min(1.0, value / reach))

    drawn = [f'<line class="axis" x1="{middle}" y1="{TOP}" x2="{middle}" y2="{bottom}"/>']
    for share in (-1, -0.5, 0.5, 1):
        drawn.append(f'<line class="grid" x1="{x(share * reach):.1f}" y1="{TOP}" x2="{x(share * reach):.1f}" y2="{bottom}"/>')
    for share in (-1, 0, 1):
        anchor, told = {-1: "start", 0: "middle", 1: "end"}[share], f"{100 * share * reach:+.0f} points" if share else "0"
        drawn.append(f'<text x="{x(share * reach):.1f}" y="{bottom + 16}" text-anchor="{anchor}">{told}</text>')
    for number, row in enumerate(rows):
        y = TOP + line * (number + 0.5)
        style = "lost" if row["high"] < 0 else "gain" if row["low"] > 0 else "even"
        name = f'{escape(_short(row["name"]))} ({row["n"]})'
        drawn += [f'<text x="{name_wide - 8}" y="{y + 4:.1f}" text-anchor="end">{name}</text>',
                  f'<line class="{style}" x1="{x(row["low"]):.1f}" y1="{y:.1f}" x2="{x(row["high"]):.1f}" y2="{y:.1f}"/>',
                  f'<circle class="{style} dot" cx="{x(row["delta"]):.1f}" cy="{y:.1f}" r="4.5"><title>{escape(row["name"])}: '
                  f'{100 * row["delta"]:+.1f} points, {100 * row["low"]:+.1f} to {100 * row["high"]:+.1f}</title></circle>']
    return _svg(title, wide, bottom + 24, drawn)


def _grid(right: float, top: float, x_name: str, y_name: str, wide: int = WIDE) -> str:
    drawn = []
    for share in (0, 0.25, 0.5, 0.75, 1):
        y = HIGH - BOTTOM - (HIGH - BOTTOM - TOP) * share
        drawn += [f'<line class="grid" x1="{LEFT}" y1="{y:.1f}" x2="{wide - 10}" y2="{y:.1f}"/>',
                  f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_tidy(top * share)}</text>']
    for share in (0, 0.5, 1):
        x = LEFT + (wide - LEFT - 10) * share
        anchor = "end" if share == 1 else "middle"
        drawn.append(f'<text x="{x:.1f}" y="{HIGH - BOTTOM + 16}" text-anchor="{anchor}">{_tidy(right * share)}</text>')
    drawn.append(f'<text class="name" x="{(wide + LEFT) / 2:.0f}" y="{HIGH - 3}" text-anchor="middle">{escape(x_name)}</text>')
    drawn.append(f'<text class="name" transform="translate(11 {(HIGH - BOTTOM) / 2:.0f}) rotate(-90)" '
                 f'text-anchor="middle">{escape(y_name)}</text>')
    return "".join(drawn)


def _svg(title: str, wide: float, high: float, drawn: Sequence[str]) -> str:
    size = f'viewBox="0 0 {wide:.0f} {high:.0f}" style="max-width:{1.25 * wide:.0f}px"'
    named, body = escape(title), "".join(drawn)
    return f'<svg role="img" {size} aria-label="{escape(title, quote=True)}"><title>{named}</title>{body}</svg>'


def _legend(names: Sequence[str]) -> str:
    keys = "".join(f'<li class="{style}">{escape(name)}</li>' for style, name in zip("ab", names))
    return f'<ul class="legend">{keys}</ul>'


def _short(name: str) -> str:
    return name if len(name) <= 31 else f"{name[:30]}…"


def _tidy(value: float) -> str:
    return f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.2g}"
