"""A key beside what it does, which may take several lines."""

from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.content import Content
from textual.widgets import Static


class KeyRow(Horizontal):
    """`KeyRow("Ctrl+N", Content("..."))`."""

    def __init__(self, key: str, what: Content) -> None:
        super().__init__()
        self.key, self.what = key, what

    def compose(self) -> ComposeResult:
        """Two columns."""
        yield Static(self.key, classes="key", markup=False)
        yield Static(self.what, classes="what")
