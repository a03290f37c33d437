"""A settled message as one widget, whatever stands in it, so that a thousand of them scroll."""

from collections.abc import Callable

from textual.content import Content
from textual.geometry import Size
from textual.widget import Widget


class Sheet(Widget):
    """`draw(width)` gives its lines. Can be selected with the mouse as any text can."""

    def __init__(self, draw: Callable[[int], list[Content]]) -> None:
        super().__init__()
        self.draw = draw
        self._drawn: tuple[int, Content, int] | None = None

    def render(self) -> Content:
        """As it is wrapped for the present width."""
        return self._lines(self.content_size.width)[1]

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """Lines."""
        return self._lines(width)[2]

    def renew(self) -> None:
        """Something that it draws has changed."""
        self._drawn = None
        self.refresh(layout=True)

    def _lines(self, width: int) -> tuple[int, Content, int]:
        if self._drawn is None or self._drawn[0] != width:
            found = self.draw(width)
            self._drawn = width, Content("\n").join(found), len(found)
        return self._drawn
