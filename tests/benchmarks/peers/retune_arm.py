"""Retune's tuned router, trained as `retune bench router` trains it."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from arm import Row, run

from agent import models
from agent.router import Router
from agent.settings import Settings
from tuning import recipe, train_router
from tuning.dataset import Text

RECIPE = "sharp"


class Retune:
    """Encoder and head, temperature, out-of-scope score and threshold, all as the recipe chooses by the rows."""

    packages = ("retune", "torch", "transformers", "peft", "onnxruntime")

    def __init__(self, job: dict[str, Any]) -> None:
        base = models.find(job["base"], Settings.load())
        assert base, f"no base model at {job['base']}"
        self._base, self._threads = base, job["threads"]

    def fit(self, rows: Sequence[Row], held: Sequence[Row], seed: int) -> None:
        """Train; without held rows the trainer splits some off."""
        how = recipe.load(RECIPE).router
        fit, kept = [Text(*row) for row in rows], [Text(*row) for row in held]
        with tempfile.TemporaryDirectory() as folder:
            for _ in train_router.train(fit, how, self._base, seed, Path(folder), self._threads, kept or None):
                pass
            router = Router(Path(folder), self._base, self._threads)
        self.labels, self.threshold, self.score = router.labels, router.threshold, router.score
        self.about = f"recipe {RECIPE}: {how.method}, the rest chosen by the rows, threshold fitted"


if __name__ == "__main__":
    run(Retune)
