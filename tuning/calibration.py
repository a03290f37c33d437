"""How sure a router may be: temperature, out-of-scope score and threshold, fitted on held-out rows; and its folder.

Knows logits and labels, nothing about encoders.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agent.router import oos_features, softmax
from tuning.dataset import OOS

MISS = 0.05
"""Of a hundred messages in scope, so many may have their intent outside `Route.likely`."""
PRIOR = 10.0
"""How strongly a temperature is held to 1, in the log-likelihood of a factor of e."""
SHARES = (0.0, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)


def calibrate(labels: Sequence[str], logits: np.ndarray, truth: Sequence[str], coverage: float,
              near: np.ndarray | None = None) -> dict[str, Any]:
    """The table of router.json from held-out logits [n, labels + 1], the last column out of scope, and their intents.

    coverage: share of in-scope rows that the threshold lets through, which is the cost that is stated: so many of a hundred
    good messages may be turned away. near [n]: as `agent.router.nearness`.
    """
    inside = np.array([intent != OOS for intent in truth])
    index = np.array([labels.index(intent) if intent != OOS else -1 for intent in truth])
    temperature = _fit_temperature(logits[inside][:, :-1], index[inside])
    features = oos_features(logits, temperature, near)
    weights = _fit_oos(features, ~inside, coverage)
    probability = 1 / (1 + np.exp(-(features @ weights[:-1] + weights[-1])))
    right = softmax(logits[inside][:, :-1] / temperature)[np.arange(inside.sum()), index[inside]]
    return {"labels": list(labels), "temperature": temperature, "oos_weights": weights.tolist(),
            "oos_threshold": float(np.quantile(probability[inside], coverage)), "least_likely": least_likely(right),
            "held_out_rows": len(truth)}


def least_likely(right: np.ndarray, miss: float = MISS) -> float:
    """The probability from which an intent is in the set that holds the right one in 1 - `miss` of messages like these.

    right [n]: calibrated probability of the right intent of rows that were not trained on. Split conformal prediction with
    the score 1 - p (Sadinle, Lei and Wasserman, 2019), with its correction for n; 0 where n is too small to promise it.
    """
    rank = int(np.floor(miss * (len(right) + 1)))
    return float(np.sort(right)[rank - 1]) if rank else 0.0


def fit_plain(vectors: np.ndarray, intents: Sequence[str], labels: Sequence[str],
              strength: float) -> tuple[np.ndarray, np.ndarray]:
    """(weight [labels + 1, hidden], bias [labels + 1]) of a logistic regression on vectors of the untuned encoder.

    strength: inverse of the penalty. An output that no row has, such as out of scope, is made unlikely.
    """
    from sklearn.linear_model import LogisticRegression

    fitted = LogisticRegression(C=strength, max_iter=2000).fit(vectors, intents)
    coefficients, offsets = fitted.coef_, fitted.intercept_
    if len(fitted.classes_) == 2:  # sklearn gives one row: how much the second class is before the first
        coefficients, offsets = np.vstack([-coefficients, coefficients]) / 2, np.r_[-offsets, offsets] / 2
    weight, bias = np.zeros((len(labels) + 1, vectors.shape[1])), np.full(len(labels) + 1, offsets.min() - 10.0)
    place = {label: i for i, label in enumerate([*labels, OOS])}
    for name, row, offset in zip(fitted.classes_, coefficients, offsets):
        weight[place[name]], bias[place[name]] = row, offset
    return weight, bias


def fit_share(tuned: np.ndarray, plain: np.ndarray, labels: Sequence[str], truth: Sequence[str]) -> float:
    """How much of the plain head's logits is added to the tuned head's: the least negative log-likelihood of held-out rows,
    each mixture at its own best temperature.
    """
    place = {label: i for i, label in enumerate([*labels, OOS])}
    target = np.array([place[intent] for intent in truth])

    def loss(share: float) -> float:
        logits = tuned + share * plain
        logits = logits / _fit_temperature(logits, target)
        return float(-np.log(softmax(logits)[np.arange(len(target)), target] + 1e-12).mean())

    return min(SHARES, key=loss)


def centres(vectors: np.ndarray, intents: Sequence[str], labels: Sequence[str]) -> np.ndarray:
    """[labels, hidden]: the mean direction of each intent's unit vectors [n, hidden], of length 1."""
    told = np.array(intents)
    means = np.stack([vectors[told == label].mean(0) for label in labels])
    return means / np.linalg.norm(means, axis=1, keepdims=True)


def write_router(out: Path, table: dict[str, Any], weight: np.ndarray, bias: np.ndarray, centres: np.ndarray) -> None:
    """head.safetensors, weight [labels + 1, hidden] for vectors of length 1, bias [labels + 1] and centres; and router.json."""
    from safetensors.numpy import save_file

    tensors = {"weight": weight, "bias": bias, "centres": centres}
    save_file({name: np.ascontiguousarray(value, np.float32) for name, value in tensors.items()}, out / "head.safetensors")
    (out / "router.json").write_text(json.dumps(table, indent=1), encoding="utf-8")


def _fit_temperature(logits: np.ndarray, target: np.ndarray) -> float:
    """The one temperature with the least negative log-likelihood on rows that were not trained on.

    A few rows that all are right would say that nothing is ever wrong, so that it is drawn to 1 as if by PRIOR.
    """
    grid = np.exp(np.linspace(np.log(0.2), np.log(8.0), 200))
    losses = [-np.log(softmax(logits / t)[np.arange(len(target)), target] + 1e-12).sum() + PRIOR * np.log(t) ** 2 for t in grid]
    return float(grid[int(np.argmin(losses))])


def _fit_oos(features: np.ndarray, outside: np.ndarray, coverage: float) -> np.ndarray:
    """Logistic weights and bias over the features, each measured in its spread over the in-scope rows.

    Without out-of-scope rows nothing is fitted: energy and distance count alike where there is a distance (which told strangers
    from others better than weights fitted on intents left out on purpose), else minus the largest logit does; and 0.5 lies where
    `coverage` of the rows are let through.
    """
    middle, spread = features[~outside].mean(0), np.maximum(features[~outside].std(0), 1e-6)
    if outside.any():
        from sklearn.linear_model import LogisticRegression

        fitted = LogisticRegression(C=1.0, class_weight="balanced", max_iter=1000).fit((features - middle) / spread, outside)
        weights = fitted.coef_[0] / spread
        return np.array([*weights, fitted.intercept_[0] - weights @ middle])
    weights = (np.array([0, 0, 0, 1, 1]) if features.shape[1] == 5 else np.array([1, 0, 0])) / spread
    return np.array([*weights, -np.quantile(features @ weights, coverage)])
