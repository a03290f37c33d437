"""An article that an answer came from, to be scrolled through."""

import re
from collections.abc import Sequence
from pathlib import Path

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Markdown, Static

from agent.signs import harmless
from agent.types import Passage


class ArticleScreen(ModalScreen[None]):
    """`text` is Markdown; it opens at `heading`."""

    BINDINGS = [Binding("escape,q,o", "dismiss", "Close", show=False)]
    part = "article"

    def __init__(self, title: str, source: str, text: str, heading: str = "") -> None:
        super().__init__()
        self.said, self.source, self.text, self.heading = title, source, text, heading

    def compose(self) -> ComposeResult:
        """Title, source, the article."""
        with Vertical(classes="box tall article"):
            yield Static(harmless(self.said), classes="title", markup=False)
            yield Static(harmless(self.source), classes="by", markup=False)
            with VerticalScroll():
                yield Markdown(harmless(self.text), open_links=False)
            yield Static("↑ ↓ scroll   Esc close", classes="keys", markup=False)

    def on_mount(self) -> None:
        """At its heading."""
        self.query_one(VerticalScroll).focus()
        self.call_after_refresh(self._find)

    def on_markdown_link_clicked(self, event: Markdown.LinkClicked) -> None:
        """A link never opens by itself: say where it would lead."""
        event.stop()
        self.app.notify(harmless(event.href), title="This link leads to", markup=False)

    def _find(self) -> None:
        for block in self.query_one(Markdown).children:
            if block.name == "heading" or type(block).__name__.startswith("MarkdownH"):
                if self.heading and str(getattr(block, "_content", "")).strip() == self.heading:
                    block.scroll_visible(top=True, animate=False)
                    block.add_class("found")


def text_of(passage: Passage, folder: Path | None, known: Sequence[Passage] = ()) -> str:
    """The whole article of a passage as Markdown: its file, else the passages of it that are known, else the passage; blocks.

    `folder`: the domain's; its file is taken only where it still holds the passage.
    """
    article = passage.id.rpartition("#")[0]
    file = folder / "knowledge" / f"{article}.md" if folder and re.fullmatch(r"[^/\\]+", article) else None
    if file and file.is_file():
        body = re.sub(r"\A---\n.*?\n---\n", "", file.read_text(encoding="utf-8", errors="replace"), flags=re.DOTALL)
        if " ".join(passage.text.split()) in " ".join(body.split()):
            return body
    whole = [each for each in known if each.id.rpartition("#")[0] == article]
    whole = whole if passage in whole else [passage]
    return "\n\n".join(f"## {each.heading}\n\n{each.text}" for each in whole)
