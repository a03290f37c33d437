"""A router trained on any {"text", "intent"} rows and measured once on the test rows. Nothing of those enters training."""

import resource
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agent.domain import numbered_rows
from agent.encoder import Encoder
from agent.errors import DataError
from agent.models import ensure
from agent.router import Router, softmax
from agent.settings import Settings
from tuning import metrics, recipe, train_router
from tuning.dataset import OOS, Text

METHODS = ("tuned", "frozen")


def bench_router(train: Path, test: Path, valid: Path | None, oos: Path | None, oos_valid: Path | None, method: str, seed: int,
                 settings: Settings, watch: Callable[[Any], None], how: str = "sharp") -> dict[str, Any]:
    """What a router reaches, as plain data; `how`: the recipe of method tuned, by name or as a file.

    accuracy, macro_f1, ece (15 bins): of the in-scope test rows, without abstaining. in_scope_coverage: share of them that
    `threshold` lets through; in_scope_accuracy: share of those that are right. With out-of-scope rows oos_auroc, oos_fpr95,
    oos_recall and oos_f1. set_coverage, set_size: how often the likely intents hold the right one, and how many they are.
    confused: the pairs that are most often taken for each other. train_s, load_s: seconds to train and to load what was
    trained; p50_ms, p99_ms: of one text, tokenizer included; peak_mb: the most memory of all this.
    """
    if method not in METHODS:
        raise DataError(f"There is no method {method!r}; use one of {', '.join(METHODS)}.")
    rows, tests = read_texts(train), read_texts(test)
    inside = [row for row in tests if row.intent != OOS]
    outside = [row for row in tests if row.intent == OOS] + [Text(row.text, OOS) for row in read_texts(oos, OOS)]
    held = [*read_texts(valid), *(Text(row.text, OOS) for row in read_texts(oos_valid, OOS))]
    if unknown := {row.intent for row in inside} - {row.intent for row in rows}:
        raise DataError(f"{test}: intent {min(unknown)!r} has no row in {train}; correct the label or add rows.")
    base = ensure(settings.encoder, settings)
    settings_of = recipe.load(how).router
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        if method == "tuned":
            for step in train_router.train(rows, settings_of, base, seed, Path(folder), settings.cores, held or None):
                watch(step)
            trained = time.perf_counter()
            router = Router(Path(folder), base, settings.cores)
            score, threshold, least = router.score, router.threshold, router.least
        else:
            encoder = Encoder(base, None, settings.cores)
            score, threshold = frozen(rows, held, encoder, settings_of.coverage)
            trained, least = time.perf_counter(), None
        loaded = time.perf_counter()
    labels = sorted({row.intent for row in rows} - {OOS})
    probabilities, strange = score([row.text for row in inside])
    predicted = [labels[i] for i in probabilities.argmax(1)]
    right = np.array([row.intent == guess for row, guess in zip(inside, predicted)])
    table: dict[str, Any] = {
        "method": method, "seed": seed, "n_train": len(rows), "n_test": len(inside), "accuracy": float(right.mean()),
        "macro_f1": metrics.macro_f1([row.intent for row in inside], predicted),
        "ece": metrics.ece(probabilities.max(1), right),
        "threshold": threshold, "in_scope_coverage": float((strange <= threshold).mean()),
        "in_scope_accuracy": float(right[strange <= threshold].mean()), "train_s": round(trained - started, 1),
        "load_s": round(loaded - trained, 2)}
    if least is not None:
        likely = probabilities >= least
        truth = np.array([labels.index(row.intent) for row in inside])
        table |= {"set_coverage": float(likely[np.arange(len(truth)), truth].mean()), "set_size": float(likely.sum(1).mean())}
    if outside:
        _, far = score([row.text for row in outside])
        hits, alarms = int((far > threshold).sum()), int((strange > threshold).sum())
        table |= {"n_oos": len(outside), "oos_auroc": metrics.auroc(strange, far), "oos_fpr95": metrics.fpr95(strange, far),
                  "oos_recall": hits / len(outside), "oos_f1": 2 * hits / (hits + alarms + len(outside))}
    table["confused"] = confused([row.intent for row in inside], predicted)
    return table | _latency(score, [row.text for row in inside[:200]]) | {
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)}


def confused(truth: Sequence[str], predicted: Sequence[str], most: int = 10) -> list[list[Any]]:
    """[intent, taken for, rows], those that cost most rows first."""
    pairs = Counter((true, guess) for true, guess in zip(truth, predicted) if true != guess)
    return [[*pair, count] for pair, count in pairs.most_common(most)]


def read_texts(file: Path | None, default: str = "") -> list[Text]:
    """Rows {"text", "intent"} of a file, none without one; `default`: the intent of rows without. DataError names the line."""
    if file is None:
        return []
    rows = []
    for number, row in numbered_rows(file):
        if not isinstance(row.get("text"), str) or not (row.get("intent") or default):
            raise DataError(f"{file}, line {number}: needs text and intent; correct that line.")
        rows.append(Text(row["text"], row.get("intent") or default))
    return rows


def frozen(rows: Sequence[Text], held: Sequence[Text], encoder: Encoder, coverage: float) -> tuple[Any, float]:
    """Logistic regression on plain vectors; out of scope by energy, threshold from held-out or training rows."""
    from sklearn.linear_model import LogisticRegression

    fit = [row for row in rows if row.intent != OOS]
    model = LogisticRegression(C=30, max_iter=2000).fit(encoder.embed([row.text for row in fit]), [row.intent for row in fit])

    def score(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        logits = model.decision_function(encoder.embed(texts))
        logits = np.stack([-logits, logits], axis=1) if logits.ndim == 1 else logits
        return softmax(logits), -np.log(np.exp(logits - 50).sum(1)) - 50

    kept = [row.text for row in held if row.intent != OOS] or [row.text for row in fit]
    return score, float(np.quantile(score(kept)[1], coverage))


def _latency(score: Any, texts: Sequence[str]) -> dict[str, float]:
    spent = []
    for text in texts:
        started = time.perf_counter()
        score([text])
        spent.append((time.perf_counter() - started) * 1000)
    return {"p50_ms": float(np.quantile(spent, 0.5)), "p99_ms": float(np.quantile(spent, 0.99))}
