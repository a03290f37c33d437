"""A router trained on any {"text", "intent"} rows and measured once on the test rows. Nothing of those enters training."""

import tempfile
import time
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
                 settings: Settings, watch: Callable[[Any], None]) -> dict[str, Any]:
    """accuracy, macro_f1, ece, oos_auroc, oos_fpr95, oos_recall, in_scope_coverage, threshold, train_s, p50_ms, p99_ms, ..."""
    if method not in METHODS:
        raise DataError(f"There is no method {method!r}; use one of {', '.join(METHODS)}.")
    rows, tests = read_texts(train), read_texts(test)
    inside = [row for row in tests if row.intent != OOS]
    outside = [row for row in tests if row.intent == OOS] + [Text(row.text, OOS) for row in read_texts(oos, OOS)]
    held = [*read_texts(valid), *(Text(row.text, OOS) for row in read_texts(oos_valid, OOS))]
    if unknown := {row.intent for row in inside} - {row.intent for row in rows}:
        raise DataError(f"{test}: intent {min(unknown)!r} has no row in {train}; correct the label or add rows.")
    base = ensure(settings.encoder, settings)
    settings_of = recipe.load("default").router
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        if method == "tuned":
            for step in train_router.train(rows, settings_of, base, seed, Path(folder), settings.cores, held or None):
                watch(step)
            score, threshold = _tuned(Router(Path(folder), base, settings.cores))
        else:
            score, threshold = frozen(rows, held, Encoder(base, None, settings.cores), settings_of.coverage)
        spent = time.perf_counter() - started
    labels = sorted({row.intent for row in rows} - {OOS})
    probabilities, strange = score([row.text for row in inside])
    predicted = [labels[i] for i in probabilities.argmax(1)]
    right = np.array([row.intent == guess for row, guess in zip(inside, predicted)])
    table: dict[str, Any] = {
        "method": method, "seed": seed, "n_train": len(rows), "n_test": len(inside), "accuracy": float(right.mean()),
        "macro_f1": metrics.macro_f1([row.intent for row in inside], predicted),
        "ece": metrics.ece(probabilities.max(1), right),
        "threshold": threshold, "in_scope_coverage": float((strange <= threshold).mean()), "train_s": round(spent, 1)}
    if outside:
        _, far = score([row.text for row in outside])
        table |= {"n_oos": len(outside), "oos_auroc": metrics.auroc(strange, far), "oos_fpr95": metrics.fpr95(strange, far),
                  "oos_recall": float((far > threshold).mean())}
    return table | _latency(score, [row.text for row in inside[:200]])


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


def _tuned(router: Router) -> tuple[Any, float]:
    return router.score, router.threshold


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
