"""Where a person writes: grows with its lines, sends, and remembers what was sent."""

from textual.message import Message

from agent.surfaces.tui import actions
from agent.surfaces.tui.widgets.fields import Area

TALLEST = 8


class Prompt(Area):
    """A text area that sends on Enter."""

    part = "prompt"
    BINDINGS = actions.bindings("prompt", priority=True)

    class Sent(Message):
        """What a person wrote; `keep()` puts it back."""

        def __init__(self, prompt: "Prompt", text: str) -> None:
            self.prompt, self.text = prompt, text
            super().__init__()

        def keep(self) -> None:
            """It could not be sent: show it again, if nothing new was begun."""
            if not self.prompt.text:
                self.prompt.fill(self.text)

    def __init__(self) -> None:
        super().__init__(compact=True, show_line_numbers=False, soft_wrap=True, tab_behavior="focus",
                         placeholder="Ask something. Enter sends, Ctrl+J begins a new line, F1 helps.")
        self.sent: list[str] = []
        """What was sent before, oldest first."""
        self._at: int | None = None  # which of them is shown

    # A key that inserts waits in this widget's queue and a key that is bound does not: what is bound here is queued
    # behind the letters, or a fast typist's Enter overtakes them.

    def action_send(self) -> None:
        """Send what is written; nothing if that is nothing."""
        self.call_later(self._send)

    def action_newline(self) -> None:
        """Break the line where the cursor stands."""
        self.call_later(self.insert, "\n")

    def action_older(self) -> None:
        """What was sent before this, where the prompt is empty or shows such a text; else the line above."""
        self.call_later(self._older)

    def action_newer(self) -> None:
        """What was sent after this, at last nothing; else the line below."""
        self.call_later(self._newer)

    def fill(self, text: str) -> None:
        """Put a text in, to be changed and sent."""
        self._at = None
        self._show(text)
        self.focus()

    def on_text_area_changed(self) -> None:
        """A text from before that is changed is a new one."""
        if self._at is not None and self.text != self.sent[self._at]:
            self._at = None

    def _send(self) -> None:
        text = self.text.strip()
        if text:
            self.sent = [old for old in self.sent if old != text] + [text]
            self._at = None
            self.clear()
            self.post_message(self.Sent(self, text))

    def _older(self) -> None:
        if not self.sent or (self.text and self._at is None) or self._at == 0:
            self.action_cursor_up()
        else:
            self._at = (len(self.sent) if self._at is None else self._at) - 1
            self._show(self.sent[self._at])

    def _newer(self) -> None:
        if self._at is None:
            self.action_cursor_down()
        else:
            self._at = self._at + 1 if self._at + 1 < len(self.sent) else None
            self._show("" if self._at is None else self.sent[self._at])

    def _show(self, text: str) -> None:
        self.text = text
        self.move_cursor(self.document.end)
