"""Which intent, how sure, and whether it is any of ours: tuned encoder, linear head, temperature, fitted out-of-scope score.

Knows vectors and labels, nothing about domains or dialogue.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from agent import weights
from agent.encoder import Encoder, Shared
from agent.errors import BundleError
from agent.models import BaseModel
from agent.types import Route


class Router:
    """`route(texts)` gives a Route each. Reads the folder that `tuning.train_router` writes."""

    def __init__(self, folder: Path, base: BaseModel, threads: int = 1, plain: Encoder | Shared | None = None) -> None:
        """`plain`: the untuned encoder where it is loaded already; some heads read its vectors beside the tuned ones."""
        try:
            table = json.loads((folder / "router.json").read_text(encoding="utf-8"))
            head = weights.read(folder / "head.safetensors")
        except (OSError, ValueError) as error:
            raise BundleError(f"{folder} holds no whole router ({error}); restore it or choose another version.") from error
        self.labels: list[str] = table["labels"]
        self.threshold: float = table["oos_threshold"]
        self._temperature, self._oos = table["temperature"], np.array(table["oos_weights"])
        self._weight, self._bias, self._centres = head["weight"], head["bias"], head.get("centres")
        self.least: float | None = table.get("least_likely")
        """Calibrated probability from which an intent is among `Route.likely`."""
        tuned = table.get("encoder", "tuned") == "tuned"  # else the head alone was
        self.encoder = Encoder(base, folder / "adapter" if tuned else None, threads, table.get("precision") == "int8")
        self._plain = (plain or Encoder(base, None, threads)) if table.get("plain") else None

    def route(self, texts: Sequence[str]) -> list[Route]:
        """A Route for each text; `intent` is None where the out-of-scope score passes the threshold."""
        probabilities, outside = self.score(texts)
        return [self._route(row, float(oos)) for row, oos in zip(probabilities, outside)]

    def score(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """(calibrated probabilities [n, intents], out-of-scope probability [n])."""
        if not texts:
            return np.zeros((0, len(self.labels))), np.zeros(0)
        vectors = self.encoder.embed(texts)
        if self._plain:
            vectors = np.hstack([vectors, self._plain.embed(texts)])
        logits = vectors @ self._weight.T + self._bias
        features = oos_features(logits, self._temperature, nearness(vectors, self._centres))
        outside = 1 / (1 + np.exp(-(features @ self._oos[:-1] + self._oos[-1])))
        outside[~self.encoder.reads(texts)] = 1.0  # without a word the vector says nothing
        return softmax(logits[:, :-1] / self._temperature), outside

    def _route(self, row: np.ndarray, oos: float) -> Route:
        best = np.argsort(-row)[:5]
        ranking = tuple((self.labels[i], float(row[i])) for i in best)
        likely = tuple(name for name, share in ranking if share >= self.least) or (ranking[0][0],) if self.least is not None else ()
        if oos > self.threshold:
            return Route(None, oos, ranking, oos, likely)
        return Route(ranking[0][0], ranking[0][1], ranking, oos, likely)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Along the last axis."""
    raised = np.exp(logits - logits.max(-1, keepdims=True))
    return raised / raised.sum(-1, keepdims=True)


def oos_features(logits: np.ndarray, temperature: float, near: np.ndarray | None = None) -> np.ndarray:
    """[n, 3] from logits [n, intents + 1]: minus the largest intent logit, the out-of-scope margin, one minus the top probability.

    With `near` [n], see `nearness`, [n, 5]: energy (minus the log of the sum of all intents' exponentials) and minus `near` too.
    """
    inside, outside = logits[:, :-1], logits[:, -1]
    top = inside.max(1)
    energy = top + np.log(np.exp(inside - top[:, None]).sum(1))
    features = [-top, outside - energy, 1 - softmax(inside / temperature).max(1)]
    return np.stack(features if near is None else [*features, -energy, -near], axis=1)


def nearness(vectors: np.ndarray, centres: np.ndarray | None) -> np.ndarray | None:
    """[n]: cosine of each vector to the nearest of the intents' mean directions; None without them."""
    return None if centres is None else (vectors[:, :centres.shape[1]] @ centres.T).max(1)
