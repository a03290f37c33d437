"""The last line: the keys that matter in the part that has the focus, as they are mapped now."""

from textual.content import Content
from textual.widgets import Static

from agent.surfaces.tui import actions


class KeyLine(Static):
    """Rewrites itself when the focus or what can be done changes."""

    def on_mount(self) -> None:
        """Follow the screen's bindings."""
        self.screen.bindings_updated_signal.subscribe(self, lambda _: self.renew())
        self.renew()

    def renew(self) -> None:
        """Show what can be done now."""
        known = actions.keys_now(self.screen)
        part = actions.part_of(self.screen)
        pieces = []
        possible = [id for id in actions.FOOT.get(part, actions.FOOT["chat"]) if id in known][:5]
        for id in (*possible, *(["app.help"] if "app.help" in known else [])):
            keys = actions.shown(known[id].split(",")[0])
            pieces.append(Content.assemble((keys, "bold $accent"), f" {actions.of(id).title}"))
        self.update(Content("   ").join(pieces))
