"""An answer while it is written: Textual's Markdown, laid out once where it grows by a line and not twice.

A widget of Textual's asks for a second layout when its inner size has changed, since its scroll bars may come or go.
What never scrolls by itself has none.
"""

from textual.geometry import Size
from textual.reactive import Reactive
from textual.widgets import Markdown
from textual.widgets._markdown import MarkdownParagraph


class Paragraph(MarkdownParagraph):
    """See above."""

    virtual_size = Reactive(Size(0, 0))


class Reply(Markdown):
    """See above."""

    virtual_size = Reactive(Size(0, 0))
    BLOCKS = Markdown.BLOCKS | {"paragraph_open": Paragraph}
