"""Logistic regression on the vectors of the plain encoder: what no tuning at all reaches."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from arm import OOS, Row, run
from scipy.special import logsumexp, softmax
from sklearn.linear_model import LogisticRegression

from agent import models
from agent.encoder import Encoder
from agent.settings import Settings

COVERAGE = 0.97  # of the held in-scope rows the threshold lets this share in, as Retune's recipe wants it
C = 30.0  # with unit vectors scikit-learn's own 1.0 underfits


class LogReg:
    """Out of scope by energy (Liu et al., 2020), since the largest probability is a poorer score."""

    packages = ("scikit-learn", "onnxruntime")

    def __init__(self, job: dict[str, Any]) -> None:
        base = models.find(job["base"], Settings.load())
        assert base, f"no base model at {job['base']}"
        self._encoder = Encoder(base, None, job["threads"])

    def fit(self, rows: Sequence[Row], held: Sequence[Row], seed: int) -> None:
        """Fit the regression; without held rows the threshold comes from those that were trained on."""
        inside = [row for row in rows if row.intent != OOS]
        vectors = self._encoder.embed([row.text for row in inside])
        self._model = LogisticRegression(C=C, max_iter=2000, random_state=seed).fit(vectors, [row.intent for row in inside])
        self.labels = [str(label) for label in self._model.classes_]
        _, strange = self.score([row.text for row in held if row.intent != OOS] or [row.text for row in inside])
        self.threshold = float(np.quantile(strange, COVERAGE))
        self.about = f"C={C:g}, threshold at {COVERAGE:.0%} of the {'held' if held else 'training'} rows"

    def score(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """(probabilities, minus the log of the summed exponentials of the logits)."""
        logits = self._model.decision_function(self._encoder.embed(texts))
        return softmax(logits, axis=1), -logsumexp(logits, axis=1)


if __name__ == "__main__":
    run(LogReg)
