"""A bundle held against the rows it never saw: router, retrieval, conversations, red flags, scores. JSON out.

What becomes of a generator's answers is in `judge`.
"""

import asyncio
import math
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from agent import redflags
from agent.agent import Agent
from agent.domain import Domain, asked_as
from agent.redactors import Redactors
from agent.retrieve import Index
from agent.router import Router
from agent.store import Store
from tuning import dataset, metrics
from tuning.traits import by_slice, traits

CLOCK = datetime(2026, 11, 21, 10, 0, tzinfo=UTC)  # of the evaluation conversations


def router_report(router: Router, inside: Sequence[dict], outside: Sequence[dict],
                  languages: Sequence[str] = ("en",)) -> dict[str, Any]:
    """How well in-scope rows are told apart, how far confidence can be trusted, and what out-of-scope rows are noticed.

    Recall of these at the fitted threshold and at coverage 0.95; `slices` and `wrong` row by row.
    """
    probabilities, oos = router.score([row["text"] for row in inside])
    truth = [row["intent"] for row in inside]
    predicted = [router.labels[i] for i in probabilities.argmax(1)]
    right = np.array([a == b for a, b in zip(truth, predicted)])
    report: dict[str, Any] = {
        "n": len(inside), "accuracy": float(right.mean()), "macro_f1": metrics.macro_f1(truth, predicted),
        "auc": metrics.auc(probabilities, truth, router.labels), "ece": metrics.ece(probabilities.max(1), right),
        "brier": metrics.brier(probabilities, truth, router.labels)}
    if outside:
        _, strange = router.score([row["text"] for row in outside])
        cut = np.quantile(oos, 0.95)
        near = np.array([row.get("kind") == "near" for row in outside])
        report |= {"n_oos": len(outside), "in_scope_coverage": float((oos <= router.threshold).mean()),
                   "oos_recall": float((strange > router.threshold).mean()),
                   "oos_recall_at_95": float((strange > cut).mean()), "oos_auroc": metrics.auroc(oos, strange),
                   "oos_fpr95": metrics.fpr95(oos, strange)}
        if near.any():
            report["oos_recall_near"] = float((strange[near] > router.threshold).mean())
    wrong = [{"text": row["text"], "intent": row["intent"], "routed": guess}
             for row, guess, ok in zip(inside, predicted, right) if not ok]
    named = [traits(row, row["text"], languages) for row in inside]
    return report | {"slices": by_slice(named, right, "accuracy"), "wrong": wrong,
                     "reliability": metrics.reliability(probabilities.max(1), right)}


def scores_report(scores: Sequence[float], truth: Sequence[float]) -> dict[str, float]:
    """RMSE and MAE, for a domain whose rows carry scores."""
    return {"n": len(truth), "rmse": metrics.rmse(scores, truth), "mae": metrics.mae(scores, truth)}


def retrieval_report(domain: Domain, index: Index) -> dict[str, float]:
    """Share of answerable questions whose evidence stands among the first 1, 2 and 3 passages."""
    rows = [row for row in map(lambda row: dataset.example(row, domain), domain.rows("eval/questions.jsonl")) if row.evidence]
    hits = {1: 0, 2: 0, 3: 0}
    for row in rows:
        text = asked_as(row.history, row.question)
        found = [p.id for p in index.search(text, 3, clear=math.inf)]
        for depth in hits:
            hits[depth] += bool(set(found[:depth]) & set(row.evidence))
    return {"n": len(rows)} | {f"recall_at_{depth}": count / len(rows) for depth, count in hits.items()}


def conversations_report(agent: Agent) -> dict[str, Any]:
    """Share of held-out conversations that end as expected, each with a fresh database and the clock at CLOCK."""
    rows, wrong = agent.domain.rows("eval/conversations.jsonl"), []
    for row in rows:
        with tempfile.TemporaryDirectory() as folder:
            store = Store(f"sqlite:///{folder}/store.db")
            store.open()
            fresh = replace(agent, store=store, now=lambda: CLOCK, redactors=Redactors(), tool_state=Path(folder) / "tools")
            reply = None
            for text in row["turns"]:
                reply = asyncio.run(fresh.ask(text, row["id"]))
            store.close()
        assert reply is not None, f"conversation {row['id']} has no turns"
        if difference := _differs(reply, row["end"]):
            wrong.append({"id": row["id"], "why": difference, "reply": reply.reply})
    return {"n": len(rows), "end_state_right": 1 - len(wrong) / len(rows), "wrong": wrong}


def _differs(done: Any, end: dict[str, Any]) -> str:
    """What is not as expected, or an empty string."""
    turn = done.turn
    for what, found in (("state", turn.state), ("intent", turn.intent), ("tool", turn.tool)):
        if what in end and end[what] != found:
            return f"{what} is {found!r}, expected {end[what]!r}"
    for name, value in end.get("slots", {}).items():
        found = turn.slots.get(name)
        same = abs(found - value) < 1e-6 if isinstance(value, int | float) and isinstance(found, int | float) else \
            str(found).lower().strip(" .") == str(value).lower().strip(" .")
        if not same:
            return f"slot {name} is {found!r}, expected {value!r}"
    missing = [text for text in end.get("says", []) if text.lower() not in done.reply.lower()]
    return f"does not say {missing[0]!r}" if missing else ""


def red_flags_report(domain: Domain) -> dict[str, Any] | None:
    """Recall over emergencies, and false alarms over everyday rows and in-scope messages."""
    if not (domain.folder / "redflags.toml").is_file():
        return None
    rules = redflags.load(domain.folder / "redflags.toml")
    inside = domain.rows("eval/intents.jsonl")
    report: dict[str, Any] = {"false_alarms_in_scope": float(np.mean([rules.check(row["text"]) is not None for row in inside]))}
    if (domain.folder / "eval" / "redflags.jsonl").is_file():
        rows = domain.rows("eval/redflags.jsonl")
        fired = [(row, rules.check(row["text"])) for row in rows]
        missed = [row["text"] for row, flag in fired if row["flag"] and not flag]
        count = sum(bool(row["flag"]) for row in rows)
        report |= {"n": count, "recall": 1 - len(missed) / count,
                   "right_flag": sum(bool(row["flag"]) and flag is not None and flag.name == row["flag"]
                                     for row, flag in fired) / count,
                   "false_alarms_near": float(np.mean([flag is not None for row, flag in fired if not row["flag"]])),
                   "missed": missed}
    return report
