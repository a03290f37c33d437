"""Logistic regression on the vectors of the plain encoder: what no tuning at all reaches."""

from collections.abc import Sequence
from typing import Any

from arm import OOS, Row, run

from agent import models
from agent.encoder import Encoder
from agent.settings import Settings
from tuning import recipe
from tuning.bench import frozen
from tuning.dataset import Text


class LogReg:
    """The method `frozen` of `retune bench router`: out of scope by energy (Liu et al., 2020)."""

    packages = ("scikit-learn", "onnxruntime")

    def __init__(self, job: dict[str, Any]) -> None:
        base = models.find(job["base"], Settings.load())
        assert base, f"no base model at {job['base']}"
        self._encoder = Encoder(base, None, job["threads"])

    def fit(self, rows: Sequence[Row], held: Sequence[Row], seed: int) -> None:
        """Fit the regression; without held rows the threshold comes from those that were trained on."""
        coverage = recipe.load("default").router.coverage
        self.labels = sorted({row.intent for row in rows} - {OOS})
        self.score, self.threshold = frozen([Text(*row) for row in rows], [Text(*row) for row in held], self._encoder, coverage)
        kept = "held" if held else "training"
        self.about = f"`retune bench router --method frozen`, threshold at {coverage:.0%} of the {kept} rows"


if __name__ == "__main__":
    run(LogReg)
