"""What a replay comes to: figures with intervals, words for a person, and the learning curve as a picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agent.errors import DataError


def held_against(table: dict[str, Any], bench: dict[str, Any]) -> dict[str, Any]:
    """"everything" and "of_everything" of a table, from what `retune bench router` printed for every label."""
    if bench.get("n_test") != table["tests"]:
        raise DataError(f"The bench was tested on {bench.get('n_test')} rows and the replay on {table['tests']}; use the same.")
    last = {curve["plan"]["ask"]: curve["points"][-1]["accuracy"] for curve in table["curves"]}
    return {"everything": {"accuracy": bench["accuracy"], "train_s": bench["train_s"]},
            "of_everything": {ask: accuracy / bench["accuracy"] for ask, accuracy in last.items()}}


def words(table: dict[str, Any]) -> list[str]:
    """The outcome of a replay for a person, a line each."""
    lines = []
    for curve in table["curves"]:
        last = curve["points"][-1]
        lines.append(f"asked {curve['plan']['ask']}, seed {curve['plan']['seed']}: accuracy {last['accuracy']:.4f} "
                     f"with {last['labels']} labels ({table['labels_share']:.0%} of all)")
    if "everything" in table:
        lines.append(f"trained on every label: {table['everything']['accuracy']:.4f}")
    if asking := table.get("asking"):
        lines.append(f"asking about uncertain turns instead of random ones: {asking['difference']:+.4f} "
                     f"({asking['low']:+.4f} to {asking['high']:+.4f})")
    return lines


def difference(first: np.ndarray, second: np.ndarray, seed: int = 7, resamples: int = 10_000) -> dict[str, float]:
    """Accuracy of `first` minus that of `second` on the same rows (bool [rows] or [replays, rows]), with a 95 % interval.

    Rows are resampled, and replays too where there are several: both are drawn from something larger.
    """
    delta = np.atleast_2d(first.astype(float) - second.astype(float))
    random_ = np.random.default_rng(seed)
    means = np.empty(resamples)
    for i in range(resamples):
        replays = random_.integers(0, len(delta), len(delta))
        rows = random_.integers(0, delta.shape[1], delta.shape[1])
        means[i] = delta[replays].mean(0)[rows].mean()
    low, high = np.quantile(means, (0.025, 0.975))
    return {"difference": float(delta.mean()), "low": float(low), "high": float(high), "replays": len(delta),
            "rows": delta.shape[1]}


def draw(curves: Sequence[dict[str, Any]], everything: float | None, file: Path) -> None:
    """The curves as a PNG: labels on x, test accuracy on y; `everything`: accuracy of training on all rows."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    for curve in curves:
        points = curve["points"]
        axes.plot([p["labels"] for p in points], [p["accuracy"] for p in points], marker="o",
                  label=f"{curve['plan']['method']}, asked: {curve['plan']['ask']}")
    if everything is not None:
        axes.axhline(everything, color="gray", linestyle="--", label="trained on every label")
    axes.set_xlabel("labels")
    axes.set_ylabel("accuracy on the test rows")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(file, dpi=150)
