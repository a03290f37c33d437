"""Every action of the terminal UI: its id, keys and help. Keys, key line, F1, palette and the README's table come from here.

Knows words alone; what an action does stands in its part's screen or widget.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from textual.binding import Binding

if TYPE_CHECKING:
    from textual.screen import Screen


@dataclass(frozen=True, slots=True)
class Action:
    """One thing that a person can do, `part.name`; part is where its keys are heard."""

    id: str
    keys: str
    """Default keys, comma separated, in Textual's names; `[keys]` of retune.toml replaces them."""
    title: str
    help: str

    @property
    def part(self) -> str:
        """app, chat, prompt, answer, or a screen's name."""
        return self.id.partition(".")[0]

    @property
    def name(self) -> str:
        """The part's method is `action_NAME`."""
        return self.id.partition(".")[2]


ACTIONS = (
    Action("app.help", "f1", "Help", "What can be done in the part that has the focus."),
    Action("app.palette", "ctrl+p", "Palette", "Find any action by its name."),
    Action("app.chat", "f6", "Chat", "Back to the conversation."),
    Action("app.review", "f3", "Review", "Decide about what people taught, before anything is trained on it."),
    Action("app.models", "f4", "Models", "Versions of each agent: retrain, compare, promote, roll back."),
    Action("app.desk", "f5", "Desk", "Answer the conversations that wait for a person."),
    Action("app.theme", "ctrl+t", "Theme", "Dark, light, high contrast."),
    Action("app.welcome", "", "Welcome", "How Retune works, on one screen."),
    Action("app.quit", "ctrl+q", "Quit", "Leave; what was said is kept."),
    Action("app.leave", "ctrl+c", "Copy or leave", "Copy what is selected; else ask whether to leave."),
    Action("chat.stop", "escape", "Stop", "Stop the answer that is being written; what was said of it is kept."),
    Action("chat.prompt", "escape", "Prompt", "Back to the prompt."),
    Action("chat.new", "ctrl+n", "New", "Begin a new conversation."),
    Action("chat.sessions", "ctrl+s", "Sessions", "Open, rename or archive a conversation."),
    Action("chat.search", "ctrl+f", "Search", "Find words in all conversations."),
    Action("chat.export", "ctrl+e", "Export", "Write the conversation to a Markdown file."),
    Action("chat.domain", "ctrl+o", "Domain", "Talk to one domain, or let each message find its own."),
    Action("chat.why", "f2", "Why", "What the answer was made from."),
    Action("chat.previous", "ctrl+up,alt+up", "Rate", "Move to the answer above: rate it, correct it, copy it."),
    Action("chat.next", "ctrl+down,alt+down", "Below", "Move to the answer below."),
    Action("chat.pageup", "pageup", "Scroll up", "Scroll up in the conversation."),
    Action("chat.pagedown", "pagedown", "Scroll down", "Scroll down in the conversation."),
    Action("chat.first", "ctrl+home", "Begin", "Scroll to where the conversation begins."),
    Action("chat.last", "ctrl+end", "End", "Scroll to the end of the conversation."),
    Action("sessions.open", "enter", "Open", "Go on with the conversation where it stopped."),
    Action("sessions.new", "n", "New", "Begin a new conversation."),
    Action("sessions.rename", "r", "Rename", "Give the conversation a name."),
    Action("sessions.archive", "a", "Archive", "Lay the conversation away, or fetch it back."),
    Action("sessions.archived", "t", "Archived", "Show those that were laid away, or the others."),
    Action("sessions.back", "escape", "Back", "Back to the conversation."),
    Action("search.open", "enter", "Open", "Open the conversation at that answer."),
    Action("search.down", "down", "Next", "The next one that was found."),
    Action("search.up", "up", "Above", "The one that was found before it."),
    Action("search.back", "escape", "Back", "Back to the conversation."),
    Action("models.retrain", "t", "Retrain", "Train a new bundle on what was taught; the chat goes on."),
    Action("models.stop", "x", "Stop", "Stop the retraining; begun again, it goes on from its last saved state."),
    Action("models.promote", "p", "Promote", "Make the marked bundle the champion."),
    Action("models.rollback", "b", "Roll back", "Make the champion before this one the champion again."),
    Action("models.next", "right", "Domain", "The next domain."),
    Action("models.before", "left", "Domain before", "The domain before."),
    Action("models.further", "pagedown,space", "Further", "Scroll down in what is known of the bundle."),
    Action("models.above", "pageup", "Above", "Scroll up in it."),
    Action("models.back", "escape", "Back", "Back to the conversation; a retraining goes on."),
    Action("prompt.send", "enter", "Send", "Send what is written."),
    Action("prompt.newline", "shift+enter,ctrl+j", "New line", "Begin a new line; Ctrl+J works in every terminal."),
    Action("prompt.older", "up", "History", "In an empty prompt: what was sent before."),
    Action("prompt.newer", "down", "Newer", "Back through what was sent before."),
    Action("answer.up", "plus", "Good", "The answer was good: it may be trained on."),
    Action("answer.down", "minus", "Bad", "The answer was bad; you may say what would be better."),
    Action("answer.correct", "equals_sign", "Correct", "Write the better answer."),
    Action("answer.intent", "i", "Intent", "Say what the message was about."),
    Action("answer.none", "0", "None of these", "The message was about nothing that this agent knows."),
    Action("answer.handoff", "h", "Hand off", "Give the conversation to a person."),
    Action("answer.undo", "u", "Undo", "Take back what was taught last about this answer."),
    Action("answer.copy", "y", "Copy", "Copy the answer."),
    Action("answer.code", "c", "Copy code", "Copy the next block of code of the answer."),
    Action("answer.again", "r", "Again", "Ask the same question again."),
    Action("answer.edit", "e", "Edit", "Change the question and send it again."),
    Action("answer.why", "w", "Why", "What this answer was made from."),
    Action("answer.open", "o", "Open", "Read the article that the answer came from."),
    Action("why.open", "enter,o", "Open", "Read the article of this passage."),
    Action("review.accept", "a", "Accept", "Let the row teach as it is; of a proposed intent: write its reply and add it."),
    Action("review.edit", "e", "Edit", "Write the better answer; it is learned instead."),
    Action("review.relabel", "i", "Relabel", "Say what the message was about."),
    Action("review.reject", "x", "Reject", "Never train on the row."),
    Action("review.skip", "s", "Skip", "Leave the row for another time."),
    Action("review.undo", "u", "Undo", "Take back what was decided last; the row waits again."),
    Action("review.trust", "t", "Trust", "Let what this author teaches through, unless something else speaks against it."),
    Action("review.name", "n", "Other name", "Add a proposed intent under another name."),
    Action("review.read", "space", "Read on", "The rest of a long row."),
    Action("review.next", "right", "Next domain", "The rows of the next domain."),
    Action("review.before", "left", "Domain before", "The rows of the domain before."),
    Action("review.back", "escape", "Chat", "Back to the conversation; what was decided is kept."),
    Action("desk.take", "enter", "Take", "Take the conversation, and answer it."),
    Action("desk.release", "r", "Release", "Let the conversation wait for somebody else."),
    Action("desk.undo", "u", "Undo", "Take back your last answer; the conversation waits for you again."),
    Action("desk.back", "escape", "Back", "From the answer to the list, from the list to the chat."),
)
FOOT = {
    "prompt": ("chat.stop", "desk.back", "prompt.send", "chat.previous", "chat.why", "app.review", "app.models", "app.palette",
               "chat.sessions", "chat.new", "chat.search", "app.desk"),
    "answer": ("chat.stop", "answer.undo", "answer.up", "answer.down", "answer.correct", "answer.intent", "answer.why",
               "answer.copy", "answer.none", "answer.handoff", "answer.again", "answer.edit"),
    "why": ("why.open", "chat.prompt", "chat.why", "chat.previous", "app.palette"),
    "sessions": ("sessions.open", "sessions.rename", "sessions.archive", "sessions.archived", "sessions.back"),
    "search": ("search.open", "search.down", "search.up", "search.back"),
    "review": ("review.accept", "review.edit", "review.relabel", "review.reject", "review.skip", "review.undo"),
    "desk": ("desk.take", "desk.release", "desk.undo", "desk.back"),
    "models": ("models.retrain", "models.stop", "models.promote", "models.rollback", "models.next", "models.further",
               "models.back"),
    "chat": ("chat.stop", "chat.previous", "chat.sessions", "chat.search", "app.palette"),
}
"""What the key line shows in each part, best first: F1, and of those that can be done just now as many as have room."""

_NAMES = {"plus": "+", "minus": "-", "equals_sign": "=", "escape": "Esc", "enter": "Enter", "up": "↑", "down": "↓",
          "space": "Space", "pageup": "PgUp", "pagedown": "PgDn"}


def of(id: str) -> Action:
    """The action of that id; KeyError for one that is not there."""
    return _BY_ID[id]


def bindings(part: str, only: Iterable[str] | None = None, call: str = "{name}", priority: bool = False) -> list[Binding]:
    """Textual's bindings for a part's actions, or for those names of it; `call` is the action that a key runs."""
    mine = [action for action in ACTIONS if action.part == part and (only is None or action.name in only)]
    return [Binding(action.keys or f"never+{action.name}", call.format(name=action.name), action.title, show=False,
                    id=action.id, priority=priority) for action in mine]


def remapped(keys: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """`[keys]` of retune.toml as Textual's keymap, and a sentence about each entry that cannot be used."""
    fine, said = {}, []
    for id, wanted in keys.items():
        if id not in _BY_ID:
            said.append(f"[keys] of retune.toml names {id!r}, which is no action; F1 and the README name those there are.")
        elif not all(key.strip() for key in wanted.split(",")):
            said.append(f"[keys] of retune.toml gives {id} no key; write one such as \"ctrl+g\".")
        else:
            fine[id] = ",".join(key.strip() for key in wanted.split(","))
    return fine, said


def shown(keys: str) -> str:
    """Keys as a person writes them: `ctrl+j` is Ctrl+J."""
    return " ".join(_shown(key) for key in keys.split(",") if key)


def _shown(key: str) -> str:
    parts = key.strip().split("+") if key.strip() != "+" else ["plus"]
    return "+".join(_NAMES.get(part, part.upper() if len(part) == 1 and len(parts) > 1 else
                               part if len(part) == 1 else part.capitalize()) for part in parts)


def table() -> str:
    """The actions as a Markdown table, for the README."""
    rows = [f"| {shown(action.keys)} | `{action.id}` | {action.help} |" for action in ACTIONS]
    return "\n".join(("| Keys | Action | What it does |", "| --- | --- | --- |", *rows))


_BY_ID = {action.id: action for action in ACTIONS}


def keys_now(screen: "Screen[object]") -> dict[str, str]:
    """Id -> keys, comma separated, of what can be done on a screen just now, remapped or not."""
    found: dict[str, str] = {}
    for key, active in screen.active_bindings.items():
        if (id := active.binding.id) and active.enabled:
            found[id] = f"{found[id]},{key}" if id in found else key
    return found


def part_of(screen: "Screen[object]") -> str:
    """The part that has the focus: that of the nearest widget which names one."""
    at = screen.focused or screen
    return next((part for node in at.ancestors_with_self if (part := getattr(node, "part", None))), "app")
