"""Figures from predictions: plain functions of arrays and strings, no models. Answers against references: `text_metrics`."""

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np


def ece(confidence: np.ndarray, right: np.ndarray, bins: int = 15) -> float:
    """Expected calibration error over equal-width bins, 0 to 1 (Guo et al., 2017)."""
    edges = np.linspace(0, 1, bins + 1)
    total = 0.0
    for low, high in zip(edges[:-1], edges[1:]):
        inside = (confidence > low) & (confidence <= high)
        if inside.any():
            total += abs(right[inside].mean() - confidence[inside].mean()) * inside.mean()
    return float(total)


def reliability(confidence: np.ndarray, right: np.ndarray, bins: int = 10) -> list[dict[str, Any]]:
    """{"confidence", "right", "n"} of every equal-width bin that holds rows: what a reliability diagram draws."""
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    return [{"confidence": float(confidence[place == i].mean()), "right": float(right[place == i].mean()),
             "n": int((place == i).sum())} for i in range(bins) if (place == i).any()]


def brier(probabilities: np.ndarray, truth: Sequence[str], labels: Sequence[str]) -> float:
    """Mean squared distance of probabilities [n, labels] from the one-hot truth, 0 to 2 (Brier, 1950).

    A truth that is no label of the router counts as a row of zeros: all that was given away is lost.
    """
    wanted = np.array([[label == name for label in labels] for name in truth], dtype=float).reshape(probabilities.shape)
    return float(((probabilities - wanted) ** 2).sum(1).mean())


def auc(probabilities: np.ndarray, truth: Sequence[str], labels: Sequence[str]) -> float | None:
    """Mean one-against-the-rest area under the ROC curve over the labels that occur; None where no label can be told apart."""
    from sklearn.metrics import roc_auc_score

    found = np.array(truth, dtype=object)
    areas = [float(roc_auc_score(found == label, probabilities[:, i])) for i, label in enumerate(labels)
             if 0 < (found == label).sum() < len(found)]
    return float(np.mean(areas)) if areas else None


def rmse(scores: Sequence[float], truth: Sequence[float]) -> float:
    """Root of the mean squared error, in the unit of the scores."""
    return math.sqrt(float(np.mean((np.asarray(scores, float) - np.asarray(truth, float)) ** 2)))


def mae(scores: Sequence[float], truth: Sequence[float]) -> float:
    """Mean absolute error, in the unit of the scores."""
    return float(np.mean(np.abs(np.asarray(scores, float) - np.asarray(truth, float))))


def perplexity(log_likelihoods: Sequence[float], counts: Sequence[int]) -> float:
    """exp of the mean negative log-likelihood a token; sums in nats and numbers of tokens, one of each a text."""
    return math.exp(-sum(log_likelihoods) / sum(counts))


def macro_f1(truth: Sequence[str], predicted: Sequence[str]) -> float:
    """Mean F1 over the intents that occur in `truth`."""
    from sklearn.metrics import f1_score

    return float(f1_score(truth, predicted, labels=sorted(set(truth)), average="macro", zero_division=0.0))


def auroc(inside: np.ndarray, outside: np.ndarray) -> float:
    """Probability that an out-of-scope row scores above an in-scope row."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(np.r_[np.zeros(len(inside)), np.ones(len(outside))], np.r_[inside, outside]))


def fpr95(inside: np.ndarray, outside: np.ndarray) -> float:
    """Share of out-of-scope rows let in at the lowest threshold that lets at least 95 % of in-scope rows in."""
    return float((outside <= np.quantile(inside, 0.95, method="inverted_cdf")).mean())


def must_say(answer: str, phrases: Sequence[str]) -> bool:
    """Whether every phrase (or one of its `|` alternatives) stands in the answer, case and spacing aside.

    A number counts whole: "30 days" is not said by "130 days", nor "4.9" by "4.95".
    """
    said = _flat(answer)
    return all(any(_stands(_flat(option), said) for option in phrase.split("|")) for phrase in phrases)


def rouge_l(answer: str, reference: str) -> float:
    """F-measure of the longest common subsequence of words (Lin, 2004)."""
    a, b = re.findall(r"\w+", answer.lower()), re.findall(r"\w+", reference.lower())
    if not a or not b:
        return 0.0
    row = [0] * (len(b) + 1)
    for word in a:
        before = 0
        for j, other in enumerate(b, start=1):
            before, row[j] = row[j], before + 1 if word == other else max(row[j], row[j - 1])
    common = row[-1]
    return 2 * common / (len(a) + len(b))


def _stands(phrase: str, said: str) -> bool:
    before = r"(?<!\d)(?<!\d[.,])" if phrase[:1].isdigit() else ""
    after = r"(?!\d|[.,]\d)" if phrase[-1:].isdigit() else ""
    return re.search(before + re.escape(phrase) + after, said) is not None


def _flat(text: str) -> str:
    return " ".join(text.lower().replace("’", "'").split())
