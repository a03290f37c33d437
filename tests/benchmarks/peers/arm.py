"""A router in a process of its own: it is fitted, single texts are timed, the test texts are scored once.

Knows files and clocks and nothing about any router. It stands alone, because the peers' environment has no Retune.
The folder of a job holds job.json {"base", "seed", "threads", "setfit_steps"}, train.jsonl and held.jsonl {"text", "intent"},
and tests.json: texts without their labels, read after the fit. Left there: told.json, scores.npz {"probabilities", "strange"}.
"""

import json
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

OOS = "oos"
TIMED = 300  # texts, one at a time
WARM = 20  # more of them before, whose time does not count


class Row(NamedTuple):
    """A text and its intent; `oos`: out of scope."""

    text: str
    intent: str


class Arm(Protocol):
    """A router that is compared; made from a job, and after `fit` it has `labels`, `threshold` and `about`.

    threshold: the score above which a text is out of scope, None where the router has none. about: how it was set up.
    packages: whose versions are told.
    """

    labels: list[str]
    threshold: float | None
    about: str
    packages: Sequence[str]

    def fit(self, rows: Sequence[Row], held: Sequence[Row], seed: int) -> None:
        """Learn from rows; held: rows for stopping, calibration and thresholds, out-of-scope ones among them, or none."""

    def score(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """(probabilities [n, labels], out-of-scope score [n], higher is stranger)."""


def run(make: Callable[[dict[str, Any]], Arm]) -> None:
    """The job in the folder that the command line names."""
    folder = Path(sys.argv[1])
    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    rows, held = (read(folder / name) for name in ("train.jsonl", "held.jsonl"))
    arm = make(job)
    started = time.perf_counter()
    arm.fit(rows, held, job["seed"])
    spent = time.perf_counter() - started
    took = timed(arm, [row.text for row in rows])
    texts = json.loads((folder / "tests.json").read_text(encoding="utf-8"))
    probabilities, strange = arm.score(texts)
    np.savez(folder / "scores.npz", probabilities=probabilities, strange=strange)
    told = {"labels": arm.labels, "threshold": arm.threshold, "about": arm.about, "train_s": spent,
            "p50_ms": float(np.quantile(took, 0.5)), "p99_ms": float(np.quantile(took, 0.99)), "peak_mb": peak(),
            "versions": {name: version(name) for name in arm.packages}}
    (folder / "told.json").write_text(json.dumps(told), encoding="utf-8")


def read(file: Path) -> list[Row]:
    """Rows of a job."""
    return [Row(**json.loads(line)) for line in file.read_text(encoding="utf-8").splitlines()]


def timed(arm: Arm, texts: Sequence[str]) -> list[float]:
    """Milliseconds of one text each, tokenizer included. These are training texts: the test texts are scored once."""
    chosen = texts[::max(1, len(texts) // TIMED)][:TIMED]
    for text in chosen[:WARM]:
        arm.score([text])
    took = []
    for text in chosen:
        started = time.perf_counter()
        arm.score([text])
        took.append(1000 * (time.perf_counter() - started))
    return took


def peak() -> float:
    """Most megabytes that this process has had in memory. VmHWM, since ru_maxrss counts the parent's before exec too."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024
