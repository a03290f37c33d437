"""Before something is changed: what will change, and what cannot be undone by it, with the keys to do it or leave it."""

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.events import Key
from textual.widgets import Static

from agent.signs import harmless
from agent.surfaces.tui.screens.dialogs import Ask
from agent.surfaces.tui.shelf import Shelf, Version

DO, LEAVE = "do it", "leave it"


class Confirm(Ask):
    """Gives DO or LEAVE, None on Esc; Enter does nothing, as one may press it without reading."""

    def __init__(self, title: str, lines: list[str]) -> None:
        super().__init__(title, {DO: "y", LEAVE: "n"})
        self.lines = lines

    def inside(self) -> ComposeResult:
        """What it means, a sentence a paragraph; scrolls where that is too long, so that the keys stay in sight."""
        with VerticalScroll(classes="telling"):
            yield Static(harmless("\n\n".join(self.lines)), markup=False)

    def on_key(self, event: Key) -> None:
        """Only y and n."""
        if event.key == "enter":
            event.prevent_default()  # the question's own meaning of it


def promotion(shelf: Shelf, version: Version) -> Confirm:
    """Make `version` the champion."""
    now = name_of(shelf, shelf.champion)
    lines = [f"Running agents answer with {version.name} at once, in place of {now}." if shelf.champion else
             f"Agents answer with {version.name} from now on."]
    if version.decision != "promote" and version.number > 1:
        said = (f"The gate said {version.decision}: {version.why}" if version.decision else
                "It was never compared with a champion.")
        lines.insert(0, f"{said} You would promote it all the same; the audit will say that it was forced.")
    elif version.why:
        lines.insert(0, version.why)
    if shelf.champion:
        lines.append(f"b takes it back: {now} becomes `previous`.")
    if shelf.previous not in (None, version.number):
        lines.append(f"Not undone by that: {name_of(shelf, shelf.previous)} is `previous` no longer; it stays in this list.")
    if shelf.canary and shelf.canary.version == version.number:
        lines.append("Its trial ends and does not begin again by itself.")
    lines.append("The audit keeps this for good, with your name.")
    return Confirm(f"Promote {version.name}?", lines)


def rollback(shelf: Shelf) -> Confirm:
    """Make `previous` the champion again."""
    left, back = name_of(shelf, shelf.champion), name_of(shelf, shelf.previous)
    return Confirm(f"Roll back to {back}?", [
        f"Running agents answer with {back} at once, in place of {left}.",
        f"Not undone by another roll back: then there is no `previous`. {left} stays in this list; p promotes it again.",
        "A retraining on the very same rows will not promote it again. The audit keeps this for good, with your name."])


def retraining(shelf: Shelf) -> Confirm:
    """Begin one."""
    return Confirm(f"Retrain {shelf.domain}?", [
        "A new bundle is trained on what was taught and reviewed, in a process of its own that steps back behind the chat. "
        "It takes minutes to hours, and goes on when you leave.",
        "If the gate says that it is better than the champion, it is promoted by itself; b takes it back."])


def stopping(shelf: Shelf) -> Confirm:
    """End one."""
    return Confirm(f"Stop retraining {shelf.domain}?", [
        "What answers stays as it is. The steps since its last saved state are lost; begun again with t, it goes on from there "
        "unless something new is taught or another bundle becomes champion."])


def name_of(shelf: Shelf, number: int | None) -> str:
    """`finance@0003`."""
    return f"{shelf.domain}@{number:04}" if number is not None else "nothing"
