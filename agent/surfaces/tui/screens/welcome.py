"""The first start: how Retune works, on one screen, each step with its key."""

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from agent.surfaces.tui import actions
from agent.surfaces.tui.widgets.keyrow import KeyRow

STEPS = (
    ("Chat", "prompt.send", "Ask. {chat.domain} settles a domain, {chat.why} tells why the answer."),
    ("Feedback", "answer.up", "{chat.previous} moves to an answer; {answer.up} is good, {answer.down} is bad."),
    ("Correct", "answer.correct", "Write the better answer; {answer.intent} its intent, {answer.undo} to undo."),
    ("Review", "app.review", "Decide what of it may be trained on."),
    ("Retrain", "app.models", "Train a new version and watch; the chat goes on."),
    ("Promote", "app.models", "Take the new version if its test speaks for it."),
    ("Roll back", "app.models", "Take the version before it again, at once."),
)
"""What it is, the action that begins it, what to do; an id in braces becomes its key."""
LAST = "{app.help} helps wherever you are, {app.palette} finds everything, {app.quit} leaves."


class WelcomeScreen(ModalScreen[None]):
    """Any of Enter, Esc and Space begins."""

    BINDINGS = [Binding("enter,escape,space", "dismiss", "Begin", show=False)]
    part = "welcome"

    def compose(self) -> ComposeResult:
        """Two sentences, the steps, the keys."""
        with Vertical(classes="box welcome"):
            yield Static("Welcome to Retune", classes="title", markup=False)
            with VerticalScroll(can_focus=False):
                yield Static("You talk to agents that learn from what you tell them, on this machine.\n", markup=False)
                for title, id, text in STEPS:
                    yield KeyRow(f"{title:<10}{self._key(id)}", Content(self._keyed(text)))
                yield Static(Content(self._keyed(LAST)), classes="last")
            yield Static("Enter begin", classes="keys", markup=False)

    def _keyed(self, text: str) -> str:
        for action in actions.ACTIONS:
            text = text.replace("{" + action.id + "}", self._key(action.id))
        return text

    def _key(self, id: str) -> str:
        keys = getattr(self.app, "remapped", {}).get(id, actions.of(id).keys)
        return actions.shown(keys.split(",")[0])
