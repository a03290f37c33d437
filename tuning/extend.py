"""New intents in seconds: a router's encoder stays as it was tuned, and a new head is fitted on all rows.

Knows a router's folder and rows. The head is a logistic regression on the tuned vectors.
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from agent.encoder import Encoder
from agent.models import BaseModel
from tuning import calibration, finish_router, train_router
from tuning.dataset import Text, split_rows

STRENGTH = 30.0
"""Inverse of the penalty."""


def extend(router: Path, rows: Sequence[Text], base: BaseModel, out: Path, held_out: float, coverage: float, seed: int,
           threads: int) -> None:
    """Write a router to `out` that has the encoder of the folder `router` and knows the intents of `rows`, old and new.

    Temperature and thresholds are fitted on the share `held_out` of the rows, the head on the others. The untuned encoder is
    no longer read beside the tuned one. Raises DataError for rows of fewer than two intents.
    """
    rows = list(dict.fromkeys(rows))
    labels = train_router.labels_of(rows)
    fit, held = split_rows(rows, held_out, seed)
    old = json.loads((router / "router.json").read_text(encoding="utf-8"))
    adapter = router / "adapter" if old.get("encoder", "tuned") == "tuned" else None
    vectors = Encoder(base, adapter, threads, int8=False).embed([row.text for row in fit])
    intents = [row.intent for row in fit]
    weight, bias = calibration.fit_plain(vectors, intents, labels, STRENGTH)
    if adapter:
        shutil.copytree(adapter, out / "adapter")
    finish_router.finish(out, base, labels, weight, bias, calibration.centres(vectors, intents, labels), held, coverage, threads)
