"""The last line: the keys that matter in the part that has the focus, as they are mapped now."""

from textual.content import Content
from textual.widgets import Static

from agent.surfaces.tui import actions

GAP = "   "


class KeyLine(Static):
    """Rewrites itself when the focus or what can be done changes."""

    def on_mount(self) -> None:
        """Follow the screen's bindings."""
        self.screen.bindings_updated_signal.subscribe(self, lambda _: self.renew())
        self.renew()

    def on_resize(self) -> None:
        """Another width has room for others."""
        self.renew()

    def renew(self) -> None:
        """Show what can be done now: as many keys as have room, and the one that shows the rest."""
        known = actions.keys_now(self.screen)
        part = actions.part_of(self.screen)
        possible = [id for id in actions.FOOT.get(part, actions.FOOT["chat"]) if id in known]
        last = [_piece(known, "app.help")] if "app.help" in known else []
        pieces: list[Content] = []
        room = self.content_size.width - sum(piece.cell_length for piece in last)
        for id in possible:
            piece = _piece(known, id)
            room -= piece.cell_length + len(GAP)
            if room < 0:
                break
            pieces.append(piece)
        said = Content(GAP).join([*pieces, *last])
        if said != self.content:
            self.update(said, layout=False)  # one line always: nothing else has to move


def _piece(known: dict[str, str], id: str) -> Content:
    return Content.assemble((actions.shown(known[id].split(",")[0]), "bold $accent"), f" {actions.of(id).title}")
