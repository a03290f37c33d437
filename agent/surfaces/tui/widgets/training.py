"""A retraining as it goes: stage, step of steps, time left, loss; and how it ended. Knows `Progress` alone."""

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Static

from agent.signs import harmless
from agent.surfaces.tui.retraining import Progress
from agent.surfaces.tui.widgets.curve import Curve

ENDS = {"promoted": "$success", "refused": "$error", "failed": "$error", "abstained": "$warning", "stopped": "$warning"}
WIDE = 24  # signs of the bar


class Training(Vertical):
    """Hidden until there is something to show."""

    def compose(self) -> ComposeResult:
        """What it does, and its losses."""
        yield Static("", id="doing")
        yield Curve(id="live")

    def show(self, domain: str, progress: Progress) -> None:
        """Take the place of what was shown."""
        self.display = bool(progress.began)
        if self.display:
            self.query_one("#doing", Static).update(Content("\n").join(lines(domain, progress)))
            curve = self.query_one(Curve)
            curve.display = bool(progress.loss or progress.held_out) and progress.running
            curve.show(progress.stage, progress.loss, progress.held_out, progress.total)


def lines(domain: str, progress: Progress) -> list[Content]:
    """What is going on, for a person."""
    if not progress.running:
        how = harmless(progress.status)
        words = harmless(progress.words)
        return [Content.assemble((f"Retraining {domain}: ", "bold"), (how, f"bold {ENDS.get(how, '$foreground')}"),
                                 f" {progress.bundle}. " if progress.bundle else ". ", words)]
    said = [Content.assemble((f"Retraining {domain}", "bold"), (f"   since {progress.began[11:16]} UTC, the chat stays usable",
                                                                "$foreground 60%"))]
    if progress.stage:
        share = progress.done / max(1, progress.total)
        filled = round(WIDE * share)
        left = progress.left_s
        said.append(Content.assemble(
            f"{harmless(progress.stage)}  ", ("█" * filled, "$accent"), ("░" * (WIDE - filled), "$foreground 60%"),
            f"  step {progress.done} of {progress.total}, epoch {progress.epoch + 1}"))
        said.append(Content.styled("how long it takes is not known yet" if left is None else f"{duration(left)} left of this "
                                   "stage", "$foreground 60%"))
    else:
        said.append(Content(harmless(progress.note) or "loading models and gathering rows …"))
    return said


def duration(seconds: float) -> str:
    """Roughly, as a person would say it."""
    if seconds < 90:
        return f"about {max(1, round(seconds))} s"
    return f"about {round(seconds / 60)} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"
