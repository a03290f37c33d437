"""Markdown as lines of styled text for a width: a settled answer is one widget, not one for each of its paragraphs.

Knows text and cells alone. A link's address is told behind its words, since nothing here opens.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from textual.content import Content

if TYPE_CHECKING:
    from markdown_it.token import Token

LEAST = 12  # cells for words, however deep a list goes
_MARKS = {"strong": "bold", "em": "italic", "s": "strike"}
CODE, HEADING, QUIET, BULLET = "$accent", "bold $accent", "$foreground 60%", "$primary"


def lines(text: str, width: int) -> list[Content]:
    """The text's lines, none wider than `width` cells unless a word of code or table is."""
    from markdown_it import MarkdownIt

    return _Page(width).read(MarkdownIt("gfm-like").parse(text))


class _Page:
    """Lines so far, and the containers that are open: (what stands before the next line, what before all further ones)."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.done: list[Content] = []
        self.open: list[list[Content]] = []
        self.numbers: list[int | None] = []
        self.table: list[list[Content]] = []

    def read(self, tokens: "Sequence[Token]") -> list[Content]:
        kind = ""
        for token in tokens:
            opened, name = token.nesting > 0, token.type.rpartition("_")[0]
            if token.type == "inline":
                if self.table:
                    self.table[-1].append(inline(token.children or ()))
                else:
                    self.put(inline(token.children or ()).stylize(HEADING if kind == "heading" else ""))
            elif name in ("paragraph", "heading") and opened:
                kind = name
                if not token.hidden:
                    self.gap()
            elif name in ("bullet_list", "ordered_list"):
                if opened:
                    if token.level == 0:
                        self.gap()
                    self.numbers.append(int(token.attrGet("start") or 1) if name == "ordered_list" else None)
                else:
                    self.numbers.pop()
            elif name == "list_item":
                self.item() if opened else self.open.pop()
            elif name == "blockquote":
                if opened:
                    self.gap()
                    self.open.append([Content.styled("▌ ", QUIET)] * 2)
                else:
                    self.open.pop()
            elif name == "tr" and opened:
                self.table.append([])
            elif token.type == "table_close":
                self.gap()
                self.columns()
            elif token.type in ("fence", "code_block"):
                self.gap()
                for line in token.content.rstrip("\n").split("\n"):
                    self.put(Content.styled(f"  {line}", CODE), wrap=False)
            elif token.type == "hr":
                self.gap()
                self.put(Content.styled("─" * 12, QUIET))
            elif token.type == "html_block":
                self.gap()
                self.put(Content(token.content.rstrip()))
        return self.done

    def item(self) -> None:
        number = self.numbers[-1]
        mark = "• " if number is None else f"{number}. "
        if number is not None:
            self.numbers[-1] = number + 1
        self.open.append([Content.styled(mark, BULLET), Content(" " * len(mark))])

    def gap(self) -> None:
        """One empty line, unless nothing stands above it."""
        if self.done and self.done[-1].plain.strip():
            self.done.append(Content(""))

    def put(self, content: Content, wrap: bool = True) -> None:
        room = max(LEAST, self.width - sum(rest.cell_length for _, rest in self.open))
        for line in content.wrap(room) if wrap else [content]:
            before = Content("").join([first for first, _ in self.open])
            for place in self.open:
                place[0] = place[1]
            self.done.append(before + line.rstrip())

    def columns(self) -> None:
        """A table: its first row is its head."""
        rows, self.table = self.table, []
        wide = [max(cell.cell_length for cell in column) for column in zip(*rows, strict=True)]
        for number, row in enumerate(rows):
            cells = [cell.pad_right(size - cell.cell_length) for cell, size in zip(row, wide, strict=True)]
            self.put(Content("   ").join(cells).stylize("bold" if number == 0 else ""), wrap=False)


def inline(tokens: "Sequence[Token]") -> Content:
    """Words with their styles; a link is followed by its address, unless that is what it says."""
    pieces: list[tuple[str, str]] = []
    styles: list[str] = []
    links: list[tuple[str, int]] = []
    for token in tokens:
        mark = _MARKS.get(token.type.rpartition("_")[0])
        if mark:
            styles.append(mark) if token.nesting > 0 else styles.remove(mark)
        elif token.type in ("text", "html_inline"):
            pieces.append((token.content, " ".join(styles)))
        elif token.type == "code_inline":
            pieces.append((token.content, " ".join([*styles, CODE])))
        elif token.type in ("softbreak", "hardbreak"):
            pieces.append((" " if token.type == "softbreak" else "\n", ""))
        elif token.type == "image":
            pieces.append((f"{token.content} ({token.attrGet('src')})", QUIET))
        elif token.type == "link_open":
            links.append((str(token.attrGet("href")), len(pieces)))
        elif token.type == "link_close":
            address, begin = links.pop()
            said = "".join(text for text, _ in pieces[begin:])
            if said not in (address, address.removeprefix("mailto:"), address.removeprefix("http://")):
                pieces.append((f" ({address})", QUIET))
    return Content.assemble(*((text, style) if style else text for text, style in pieces))
