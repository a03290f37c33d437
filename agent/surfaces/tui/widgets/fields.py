"""Fields to write in that take their keys in the order in which they were pressed, however busy the app is.

A letter is inserted where the field hears it, while a bound key (Backspace, Ctrl+U, an arrow) travels on to the app and comes
back as an action: behind it, a fast typist's next letter would come first.
"""

from typing import TYPE_CHECKING

from textual import events
from textual.widgets import Input, TextArea

if TYPE_CHECKING:
    from textual.widget import Widget


class Area(TextArea):
    """A text of several lines."""

    async def on_key(self, event: events.Key) -> None:
        """What is bound here is done at once."""
        await _in_order(self, event)


class Field(Input):
    """A line."""

    async def on_key(self, event: events.Key) -> None:
        """What is bound here is done at once."""
        await _in_order(self, event)


async def _in_order(widget: "Widget", event: events.Key) -> None:
    for binding in widget._bindings.key_to_bindings.get(event.key, ()):
        if not binding.priority and await widget.app.run_action(binding.action, widget):
            event.stop().prevent_default()
            return
