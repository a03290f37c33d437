"""A bundle held against the rows it never saw: router, generator in three arms, conversations, red flags. JSON out.

The generator's arms answer the same prompts, evidence among retrieved distractors; end-to-end uses what was retrieved.
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

from agent import prompt, redflags
from agent.agent import Agent
from agent.domain import Domain, asked_as
from agent.facts import facts
from agent.guard import Guard
from agent.retrieve import Index
from agent.router import Router
from agent.sentences import split_sentences
from agent.store import Store
from agent.types import Message
from tuning import dataset, metrics
from tuning.dataset import Example

CLOCK = datetime(2026, 11, 21, 10, 0, tzinfo=UTC)  # of the evaluation conversations


def router_report(router: Router, inside: Sequence[dict], outside: Sequence[dict]) -> dict[str, Any]:
    """Accuracy, macro_f1, ece of in-scope rows; out-of-scope recall at the fitted threshold and at coverage 0.95."""
    probabilities, oos = router.score([row["text"] for row in inside])
    truth = [row["intent"] for row in inside]
    predicted = [router.labels[i] for i in probabilities.argmax(1)]
    right = np.array([a == b for a, b in zip(truth, predicted)])
    report = {"n": len(inside), "accuracy": float(right.mean()), "macro_f1": metrics.macro_f1(truth, predicted),
              "ece": metrics.ece(probabilities.max(1), right)}
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
    return report | {"wrong": wrong}


def questions(domain: Domain, rows: Sequence[dict], search: dataset.Search) -> list[tuple[Example, list[str], list[str]]]:
    """Held-out questions with their facts (as in training: evidence among what was retrieved) and what must be said."""
    known = {passage.id: passage for passage in domain.passages}
    made = []
    for row in rows:
        example = dataset.example(row, domain)
        chosen = [known[key] for key in dataset.choose_facts(example, search)]
        made.append((example, [prompt.fact(p.title, p.heading, p.text) for p in chosen], row.get("must_say", [])))
    return made


def few_shot(domain: Domain, messages: list[Message]) -> list[Message]:
    """The same prompt after two worked examples of the domain, an answered and an unanswerable one."""
    known = {passage.id: passage for passage in domain.passages}
    rows = [dataset.example(row, domain) for row in domain.rows("dialogues.jsonl") if not row.get("tool_result")]
    shown = [next(row for row in rows if row.evidence and not row.history),
             next(row for row in rows if not row.evidence)]
    worked: list[Message] = []
    for row, passage in zip(shown, (known[shown[0].evidence[0]], domain.passages[0])):
        fact = prompt.fact(passage.title, passage.heading, passage.text)
        worked += [{"role": "user", "content": f"Facts:\n- {fact}\n\n{row.question}"},
                   {"role": "assistant", "content": row.answer}]
    return [messages[0], *worked, *messages[1:]]


def generator_report(domain: Domain, rows: Sequence[tuple[Example, list[str], list[str]]], answers: Sequence[str]) -> dict[str, Any]:
    """must_say and rouge_l over answerable rows, refusal_accuracy over all, unsupported_numbers after the guard (raw before)."""
    said, likeness, refusals, raw, shown_bad, misses = [], [], [], 0, 0, []
    for (example, sources, phrases), answer in zip(rows, answers):
        heard = [example.question, *example.history]
        guard = Guard(sources, numbers_need_source=domain.rules.numbers_need_source, forbid=domain.rules.forbid,
                      unknown=domain.unknown, heard=heard)
        shown = "".join(guard.check(sentence).sentence for sentence in split_sentences(answer)).strip()
        known = set().union(*(facts(text, loose=True) for text in (*sources, *heard)))
        raw += bool(facts(answer) - known)
        shown_bad += bool(facts(shown) - known - facts(domain.unknown))
        refused = domain.unknown.lower() in shown.lower()
        answerable = example.answer != domain.unknown
        refusals.append(refused != answerable)
        if answerable:
            said.append(not refused and metrics.must_say(shown, phrases))
            likeness.append(metrics.rouge_l(shown, example.answer))
        if refused == answerable or (answerable and not said[-1]):
            misses.append({"id": example.id, "question": example.question, "answer": shown, "wanted": example.answer})
    return {"n": len(rows), "n_answerable": len(said), "must_say": float(np.mean(said)), "rouge_l": float(np.mean(likeness)),
            "refusal_accuracy": float(np.mean(refusals)), "unsupported_numbers": shown_bad,
            "unsupported_numbers_raw": raw, "misses": misses}


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
            fresh = replace(agent, store=store, now=lambda: CLOCK, redactors={}, tool_state=Path(folder) / "tools")
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
                   "right_flag": sum(bool(row["flag"]) and flag is not None and flag.name == row["flag"] for row, flag in fired) / count,
                   "false_alarms_near": float(np.mean([flag is not None for row, flag in fired if not row["flag"]])),
                   "missed": missed}
    return report
