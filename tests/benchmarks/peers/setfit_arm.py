"""SetFit with its defaults, on the same encoder: contrastive pairs tune it, then a logistic regression is fitted.

All pairs of ten thousand rows are fifty million, so the number of steps is bounded by `max_steps`, which bounds the pairs that
SetFit draws too. Where the bound allows it there are as many pairs as 20 iterations make (the R of Tunstall et al., 2022).
"""

import logging
import math
import random
import tempfile
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from arm import OOS, Row, run
from datasets import Dataset
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
from setfit import SetFitModel, Trainer, TrainingArguments
from sklearn.linear_model import LogisticRegression

ITERATIONS, BATCH = 20, 16  # pairs of each kind for a row; pairs in a batch, SetFit's default
MAX_TOKENS = 256  # of the encoder's own card


class SetFit:
    """Out of scope by one minus the largest probability; SetFit has no threshold."""

    packages = ("setfit", "sentence-transformers", "transformers", "torch")
    threshold = None

    def __init__(self, job: dict[str, Any]) -> None:
        body = Transformer(job["base"], max_seq_length=MAX_TOKENS)
        pooling = Pooling(body.get_embedding_dimension(), pooling_mode="mean")
        encoder = SentenceTransformer(modules=[body, pooling, Normalize()], device="cpu")
        self._most = job["setfit_steps"]
        self._model = SetFitModel(model_body=encoder, model_head=LogisticRegression())

    def fit(self, rows: Sequence[Row], held: Sequence[Row], seed: int) -> None:
        """Train on shuffled rows, since SetFit draws its pairs with a seed of its own; held rows are of no use to it."""
        mixed = [row for row in rows if row.intent != OOS]
        random.Random(seed).shuffle(mixed)
        wanted = math.ceil(2 * ITERATIONS * len(mixed) / BATCH)
        steps = min(wanted, self._most)
        data = Dataset.from_dict({"text": [row.text for row in mixed], "label": [row.intent for row in mixed]})
        with tempfile.TemporaryDirectory() as folder:
            how = TrainingArguments(output_dir=folder, batch_size=BATCH, max_steps=steps, seed=seed, report_to="none",
                                    save_strategy="no", logging_strategy="no", show_progress_bar=False)
            Trainer(model=self._model, args=how, train_dataset=data).train()
        self.labels = [str(label) for label in self._model.model_head.classes_]
        bounded = f" ({ITERATIONS} iterations would be {wanted})" if steps < wanted else ""
        self.about = f"defaults, {steps} steps of {BATCH} pairs{bounded}"

    def score(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """(probabilities, one minus the largest)."""
        probabilities = self._model.predict_proba(list(texts), as_numpy=True, show_progress_bar=False)
        return probabilities, 1 - probabilities.max(1)


if __name__ == "__main__":
    logging.disable(logging.INFO)
    warnings.simplefilter("ignore")
    run(SetFit)
