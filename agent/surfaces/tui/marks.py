"""What people taught about an answer, in a line each, and what that will teach. Words alone: no widget, no store.

Whether a lesson is learned at all is decided by `tuning.harvest`; `missed` says the same beforehand, where it is known.
"""

from collections.abc import Mapping
from typing import Any

from agent.signs import harmless

OWN = "✓"
QUOTED = 60
"""Characters of a text that are shown of it."""
_ANSWERS = ("up", "down", "correction")
_GUARDED = {"unsupported_number", "forbidden"}
_LESSONS = {  # kind of feedback -> what was said, what is learned from it
    "up": ("Good.", "this answer is trained on."),
    "down": ("Bad.", "training moves away from this answer."),
    "correction": ("Better: “{value}”", "it is trained on, and preferred to this one."),
    "intent": ("About {value}.", "the router learns it."),
    "none_of_these": ("None of these.", "the router learns that this is out of scope."),
}
_DESK = {"waiting": "Handed off: the conversation waits for a person, whose answer teaches as a correction.",
         "taken": "Handed off: {by} has taken the conversation.",
         "answered": "Handed off, and answered."}


def told(row: Mapping[str, Any] | None, author: str) -> str:
    """A line for each thing that `author` taught about a turn, for its hand-off and for what a person replied; or nothing.

    `row`: the turn with "feedback" as `teaching.heard` gives it.
    """
    lines = []
    for each in row["feedback"] if row else ():
        if each["kind"] == "handoff":
            lines.append(f"{OWN} " + _DESK[each["value"]].format(by=each.get("by") or "somebody"))
        elif each["kind"] == "reply":
            lines.append(f"{each['author'] or 'A person'} answered: {each['value']}")
        elif each["author"] == author:
            lines.append(f"{OWN} {lesson(row, each['kind'], each['value'])}")
    return harmless("\n".join(lines))


def lesson(row: Mapping[str, Any], kind: str, value: str | None) -> str:
    """What was said and what will be learned from it, in one line."""
    if kind == "comment":
        return f"Comment: “{_short(value)}”. It is kept; nothing is trained on it."
    said, learned = _LESSONS[kind]
    shown = (value or "").replace("_", " ") if kind == "intent" else _short(value)
    why = missed(row, kind)
    return f"{said.format(value=shown)} " + (f"Kept, not trained on: {why}." if why else f"Once reviewed, {learned}")


def missed(row: Mapping[str, Any], kind: str) -> str:
    """Why nothing can be learned from this about the turn, or an empty string."""
    flags = row["flags"] or ()
    if row.get("error") or "error" in flags or row["state"] == "error":
        return "the engine failed, which says nothing about the model"
    if any(flag.startswith("red_flag:") for flag in flags):
        return "a rule answered"
    if "unreadable" in flags:
        return "the message could not be read"
    if kind not in _ANSWERS:
        return ""
    if "generate" not in row["timings_ms"]:
        return "no model wrote this answer"
    if kind == "down" and _GUARDED & set(flags):
        return "some of these words are the guard's"
    return "the model said that it does not know" if kind == "down" and row["abstained"] else ""


def name_of(kind: str) -> str:
    """A kind of feedback in words."""
    return {"correction": "better answer", "none_of_these": "none of these", "handoff": "hand-off", "up": "good",
            "down": "bad"}.get(kind, kind)


def _short(text: str | None) -> str:
    line = " ".join((text or "").split())
    return line if len(line) <= QUOTED else line[:QUOTED].rstrip() + "…"
