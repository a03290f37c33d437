"""The last step of a router's training: what serves it is measured on held-out rows as it will be served, and written.

Knows a folder with an adapter and a head, nothing about how they were trained.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agent.encoder import Encoder
from agent.models import BaseModel
from tuning import calibration, methods
from tuning.dataset import OOS, Text

LOSS = 0.003
"""Of held-out accuracy that whole numbers may cost; a router that loses more is served in float32."""


def finish(out: Path, base: BaseModel, labels: Sequence[str], weight: np.ndarray, bias: np.ndarray, held: Sequence[Text],
           coverage: float, threads: int = 1, plain: tuple[np.ndarray, np.ndarray] | None = None,
           share: float | None = None) -> None:
    """Choose int8 or float32, fit temperature and threshold, write head.safetensors and router.json beside `out`/adapter.

    weight [labels + 1, hidden] and bias [labels + 1] read vectors of length 1; `plain`: weight and bias for vectors of the
    untuned encoder, added as far as they help on `held`, which nothing was trained on. `share`: that was done, by so much.
    coverage: share of in-scope rows that the out-of-scope threshold lets through.
    """
    adapter = out / "adapter" if (out / "adapter").exists() else None
    texts, truth = [row.text for row in held], [row.intent for row in held]
    beside = Encoder(base, None, threads).embed(texts) if plain or share is not None else None
    tries = [_logits(Encoder(base, adapter, threads, int8).embed(texts), weight, bias, beside if share is not None else None)
             for int8 in (True, False)]
    whole, exact = (_accuracy(logits, labels, truth) for logits in tries)
    logits = tries[0] if whole >= exact - LOSS else tries[1]
    about: dict[str, Any] = {"encoder": "tuned" if adapter else "plain", "precision": "int8" if logits is tries[0] else "float32"}
    if plain:
        added = beside @ plain[0].T + plain[1]
        share = calibration.fit_share(logits, added, labels, truth)
        weight, bias, logits = np.hstack([weight, share * plain[0]]), bias + share * plain[1], logits + share * added
    if share is not None:
        about |= {"plain": True, "plain_share": share}
    table = calibration.calibrate(labels, logits, truth, coverage)
    with methods.writing(out):
        calibration.write_router(out, table | about, weight, bias)


def _logits(vectors: np.ndarray, weight: np.ndarray, bias: np.ndarray, beside: np.ndarray | None) -> np.ndarray:
    return (vectors if beside is None else np.hstack([vectors, beside])) @ weight.T + bias


def _accuracy(logits: np.ndarray, labels: Sequence[str], truth: Sequence[str]) -> float:
    """Of the rows that have an intent."""
    inside = [place for place, intent in enumerate(truth) if intent != OOS]
    guessed = logits[inside][:, :-1].argmax(1)
    return float(np.mean([labels[guess] == truth[place] for guess, place in zip(guessed, inside)]))
