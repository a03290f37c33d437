"""The last step of a router's training: what serves it is measured on held-out rows as it will be served, and written.

Knows a folder with an adapter and a head, nothing about how they were trained.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agent.encoder import Encoder
from agent.models import BaseModel
from agent.router import nearness
from tuning import calibration, methods
from tuning.dataset import OOS, Text

LOSS = 0.003
"""Of held-out accuracy that whole numbers may cost, or one row where so few are held out that this is more; a router that
loses more is served in float32."""

EACH = 20
"""Rows of an intent that its mean direction is taken from."""


def finish(out: Path, base: BaseModel, labels: Sequence[str], weight: np.ndarray, bias: np.ndarray, centres: np.ndarray,
           held: Sequence[Text], coverage: float, threads: int = 1, plain: tuple[np.ndarray, np.ndarray] | None = None,
           share: float | None = None) -> None:
    """Choose int8 or float32, fit temperature and threshold, write head.safetensors and router.json beside `out`/adapter.

    weight [labels + 1, hidden], bias [labels + 1] and centres [labels, hidden] read vectors of length 1; `plain`: weight and bias for vectors of the
    untuned encoder, added as far as they help on `held`, which nothing was trained on. `share`: that was done, by so much.
    coverage: share of in-scope rows that the out-of-scope threshold lets through.
    """
    adapter = out / "adapter" if (out / "adapter").exists() else None
    texts, truth = [row.text for row in held], [row.intent for row in held]
    beside = Encoder(base, None, threads).embed(texts) if plain or share is not None else None
    vectors = [Encoder(base, adapter, threads, int8).embed(texts) for int8 in (True, False)]
    tries = [_logits(each, weight, bias, beside if share is not None else None) for each in vectors]
    whole, exact = (_accuracy(logits, labels, truth) for logits in tries)
    which = 0 if exact - whole <= max(LOSS, 1 / sum(intent != OOS for intent in truth)) + 1e-9 else 1
    logits, near = tries[which], nearness(vectors[which], centres)
    about: dict[str, Any] = {"encoder": "tuned" if adapter else "plain", "precision": ("int8", "float32")[which]}
    if plain:
        added = beside @ plain[0].T + plain[1]
        share = calibration.fit_share(logits, added, labels, truth)
        weight, bias, logits = np.hstack([weight, share * plain[0]]), bias + share * plain[1], logits + share * added
    if share is not None:
        about |= {"plain": True, "plain_share": share}
    table = calibration.calibrate(labels, logits, truth, coverage, near)
    with methods.writing(out):
        calibration.write_router(out, table | about, weight, bias, centres)


def take_over(first: Path, out: Path, weight: np.ndarray, bias: np.ndarray, centres: np.ndarray,
              plain: tuple[np.ndarray, np.ndarray] | None = None) -> None:
    """Write `out` with what was measured on `first`, the same router trained on the rows without those that measured it.

    It has seen more rows, so that it is right rather more often than it says.
    """
    table = json.loads((first / "router.json").read_text(encoding="utf-8"))
    if plain:
        weight, bias = np.hstack([weight, table["plain_share"] * plain[0]]), bias + table["plain_share"] * plain[1]
    with methods.writing(out):
        calibration.write_router(out, table, weight, bias, centres)


def centres(base: BaseModel, adapter: Path | None, rows: Sequence[Text], labels: Sequence[str], threads: int) -> np.ndarray:
    """[labels, hidden]: mean directions of the intents, from the first EACH rows of each."""
    taken: dict[str, list[str]] = {label: [] for label in labels}
    for row in rows:
        if row.intent != OOS and len(taken[row.intent]) < EACH:
            taken[row.intent].append(row.text)
    pairs = [(text, label) for label, texts in taken.items() for text in texts]
    vectors = Encoder(base, adapter, threads, int8=False).embed([text for text, _ in pairs])
    return calibration.centres(vectors, [label for _, label in pairs], labels)


def _logits(vectors: np.ndarray, weight: np.ndarray, bias: np.ndarray, beside: np.ndarray | None) -> np.ndarray:
    return (vectors if beside is None else np.hstack([vectors, beside])) @ weight.T + bias


def _accuracy(logits: np.ndarray, labels: Sequence[str], truth: Sequence[str]) -> float:
    """Of the rows that have an intent."""
    inside = [place for place, intent in enumerate(truth) if intent != OOS]
    guessed = logits[inside][:, :-1].argmax(1)
    return float(np.mean([labels[guess] == truth[place] for guess, place in zip(guessed, inside)]))
