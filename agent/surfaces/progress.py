"""Bars for long jobs: base models and training. Draws what it is told; on a pipe it prints a line now and then."""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from agent.models import Step
from tuning.steps import Note, TrainStep

if TYPE_CHECKING:
    from tuning.runs import Outcome

NAMES = {"download": "Fetching", "unpack": "Verifying", "convert": "Converting (once, about half a minute)"}


@contextmanager
def model_bar(quiet: bool = False) -> Iterator[Any]:
    """A callable for `models.ensure(watch=...)`."""
    if quiet:
        yield lambda step: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        tasks: dict[str, Any] = {}

        def watch(step: Step) -> None:
            name = NAMES.get(step.stage, step.stage)
            if step.stage not in tasks:
                tasks[step.stage] = bar.add_task(name, total=step.total or None)
                if not console.is_terminal:
                    console.print(f"{name} ...")
            bar.update(tasks[step.stage], completed=step.done, total=step.total or None)

        yield watch


class TrainPrinter:
    """Shows TrainSteps and Notes: a bar on a terminal, a line every twenty seconds and every epoch elsewhere."""

    def __init__(self) -> None:
        self._started = self._last = time.monotonic()
        self._terminal = sys.stderr.isatty()

    def show(self, step: Any) -> None:
        """One step of training, or a sentence about it."""
        if isinstance(step, Note):
            print(f"\r\033[K{step.text}" if self._terminal else step.text, file=sys.stderr, flush=True)
            return
        now = time.monotonic()
        if step.held_out is None and now - self._last < (0.2 if self._terminal else 20):
            return
        self._last = now
        share = step.done / max(1, step.total)
        filled = "█" * round(24 * share) + "░" * (24 - round(24 * share))
        line = f"{step.stage:<9} {filled} {step.done}/{step.total}  epoch {step.epoch + 1}  loss {step.loss:.3f}"
        if step.held_out is not None:
            line += f"  held out {step.held_out:.4f}"
        end = "\n" if step.held_out is not None or not self._terminal else ""
        print(f"\r\033[K{line}" if self._terminal else line, end=end, file=sys.stderr, flush=True)


class StepLines:
    """Prints TrainSteps, Notes and the Outcome as JSON, a line each, for a program that looks on.

    Each has "s", the seconds since the beginning, beside "stage", "epoch", "done", "total", "loss" and "held_out" (null but
    at the end of an epoch), or "note", or "status", "bundle" and "words".
    """

    def __init__(self) -> None:
        self._started = time.monotonic()

    def show(self, step: "TrainStep | Note | Outcome") -> None:
        """One line, at once."""
        if isinstance(step, Note):
            said: dict[str, Any] = {"note": step.text}
        elif isinstance(step, TrainStep):
            said = asdict(step)
        else:
            said = {"status": step.status, "bundle": step.bundle, "words": step.words}
        print(json.dumps({"s": round(time.monotonic() - self._started, 2), **said}, ensure_ascii=False), flush=True)
