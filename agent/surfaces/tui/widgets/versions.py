"""The list of a domain's bundles, newest first, with what each is and what the gate said about it."""

from textual.content import Content
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from agent.signs import harmless
from agent.surfaces.tui.shelf import Shelf, Version

COLOURS = {"promote": "$success", "refuse": "$error", "abstain": "$warning", "": "$foreground 60%"}


class Versions(OptionList, can_focus=True):
    """`show` a shelf; `marked` is the version under the cursor."""

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id, markup=False, compact=True)
        self.shelf: Shelf | None = None

    @property
    def marked(self) -> Version | None:
        """None in an empty list."""
        at = self.highlighted
        return self.shelf.versions[at] if self.shelf and at is not None and at < len(self.shelf.versions) else None

    def show(self, shelf: Shelf) -> None:
        """The cursor stays on its version; a new domain's is on the newest."""
        same = self.shelf is not None and self.shelf.domain == shelf.domain
        kept = self.marked.number if same and self.marked else None
        if not same or self.shelf != shelf:
            self.shelf = shelf
            self.set_options([Option(line(version), id=str(version.number)) for version in shelf.versions])
        numbers = [version.number for version in shelf.versions]
        self.highlighted = (numbers.index(kept) if kept in numbers else 0) if numbers else None


def line(version: Version) -> Content:
    """0003  champion   2026-11-22 07:20  promote."""
    start = (f"{version.number:04}  ", "bold"), (f"{', '.join(version.labels):<12} ", "bold $accent")
    if version.damage:
        return Content.assemble(*start, ("damaged", "bold $error"))
    made = harmless(version.made)[:16].replace("T", " ")
    return Content.assemble(*start, (f"{made:<16}  ", "$foreground 60%"), (
        harmless(version.decision) or "not compared", COLOURS.get(version.decision, "$foreground 60%")))
