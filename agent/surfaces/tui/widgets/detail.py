"""What is known of one bundle: verdict, figures, slices as bars, learning curves; above it a retraining that runs."""

from textual.app import ComposeResult
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.widgets import Static

from agent.signs import harmless
from agent.surfaces.tui.shelf import Report, Shelf, Version
from agent.surfaces.tui.widgets.bars import Bars
from agent.surfaces.tui.widgets.curve import Curve
from agent.surfaces.tui.widgets.report import about, figures
from agent.surfaces.tui.widgets.training import Training

CURVES = 2  # router and generator


class Detail(VerticalScroll, can_focus=False):
    """`show` a bundle, or `clear` with a sentence."""

    def compose(self) -> ComposeResult:
        """Everything, hidden until there is something in it."""
        yield Training(id="training")
        yield Static("", id="about")
        yield Static("", id="figures")
        yield Static("", id="moved")
        yield Bars(id="slices")
        with Horizontal(id="curves"):
            for number in range(CURVES):
                yield Curve(id=f"curve-{number}")

    def on_mount(self) -> None:
        """Nothing yet."""
        self.query_one(Training).display = False
        self.clear()

    def clear(self, said: str = "") -> None:
        """No bundle, and why."""
        self.query_one("#about", Static).update(Content.styled(harmless(said), "$error"))
        for id in ("#figures", "#moved", "#slices", "#curves"):
            self.query_one(id).display = False

    def show(self, version: Version, seen: Shelf, told: Report) -> None:
        """A bundle with its report; what the report does not have is not there."""
        self.query_one("#about", Static).update(about(version, seen))
        text = self.query_one("#figures", Static)
        text.update(figures(told))
        text.display = bool(told.figures or told.problem) and not version.damage
        moved = [each for each in told.slices if each.delta]
        same = len(told.slices) - len(moved)
        head = self.query_one("#moved", Static)
        still = f"; {same} of {len(told.slices)} did not move" if same else ""
        head.update(Content.assemble(("Slices, worst first", "bold"),
                                     (f"   rows, difference in points, 95 % interval{still}", "$foreground 60%")))
        head.display = bool(told.slices)
        bars = self.query_one(Bars)
        bars.show(moved)
        bars.display = bool(moved)
        self.query_one("#curves").display = bool(told.curves)
        for number in range(CURVES):
            curve = self.query_one(f"#curve-{number}", Curve)
            curve.display = number < len(told.curves)
            if curve.display:
                curve.show(told.curves[number].stage, told.curves[number].loss, told.curves[number].held_out)
        self.scroll_home(animate=False)
