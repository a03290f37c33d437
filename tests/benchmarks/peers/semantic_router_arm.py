"""aurelio-labs' semantic-router on the same encoder: its index of the training rows, calibrated by its `fit`.

Its guide wants queries for `fit` that are not in the index, and sets the threshold to a probability of one half. Where a data
set has no held rows, the calibration is fitted on a fifth of the training rows against the rest, and then all rows are indexed.
"""

import random
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from arm import OOS, Row, run
from semantic_router import IndexedRouter, Route
from semantic_router.encoders import HuggingFaceEncoder

CONFIDENCE = 0.5  # act only where it is more likely right than wrong


class SemanticRouter:
    """Out of scope by one minus the confidence in the first route."""

    packages = ("semantic-router", "transformers", "torch")
    threshold = 1 - CONFIDENCE

    def __init__(self, job: dict[str, Any]) -> None:
        self._encoder = HuggingFaceEncoder(name=job["base"], device="cpu")

    def fit(self, rows: Sequence[Row], held: Sequence[Row], seed: int) -> None:
        """Index and calibrate."""
        inside = [row for row in rows if row.intent != OOS]
        self.labels = sorted({row.intent for row in inside})
        self._place = {label: i for i, label in enumerate(self.labels)}
        indexed, asked = (inside, held) if held else split(inside, seed)
        self._router = IndexedRouter(self._encoder, routes(indexed), confidence_threshold=CONFIDENCE)
        self._router.fit([row.text for row in asked], [None if row.intent == OOS else row.intent for row in asked])
        if not held:
            self._router = IndexedRouter(self._encoder, routes(inside), confidence_threshold=CONFIDENCE,
                                         calibrator=self._router.calibrator)
        self.about = f"defaults, `fit` on {len(asked)} {'held' if held else 'training'} rows, confidence threshold {CONFIDENCE}"

    def score(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """(confidences, which do not add up to 1, one minus the largest)."""
        found = np.zeros((len(texts), len(self.labels)))
        for line, text in zip(found, texts):
            for rank, choice in enumerate(self._router(text, limit=None, threshold=0.0)):
                line[self._place[choice.name]] = choice.confidence - 1e-12 * rank  # among equals its own order counts
        return found, 1 - found.max(1)


def routes(rows: Sequence[Row]) -> list[Route]:
    """A route an intent."""
    said: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        said[row.intent].append(row.text)
    return [Route(name=intent, utterances=texts) for intent, texts in said.items()]


def split(rows: Sequence[Row], seed: int) -> tuple[list[Row], list[Row]]:
    """(four fifths, one fifth) of each intent; at least one of those that have two."""
    of: dict[str, list[Row]] = defaultdict(list)
    for row in random.Random(seed).sample(rows, len(rows)):
        of[row.intent].append(row)
    cut = {intent: max(1, len(mine) // 5) if len(mine) > 1 else 0 for intent, mine in of.items()}
    return ([row for intent, mine in of.items() for row in mine[cut[intent]:]],
            [row for intent, mine in of.items() for row in mine[:cut[intent]]])


if __name__ == "__main__":
    run(SemanticRouter)
