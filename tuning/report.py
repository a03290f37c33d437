"""The whole evaluation of one bundle, part by part; arms that do not depend on the bundle are kept from run to run."""

import asyncio
import hashlib
import json
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from agent import prompt
from agent.agent import Agent
from agent.domain import Domain
from agent.serving import Bases, Serving
from agent.store import Store
from agent.types import Message
from tuning import evaluate, metrics
from tuning.batch import BatchWriter

PARTS = ("router", "retrieval", "generator", "end_to_end", "conversations", "red_flags")


def report(agent: Agent, version: str, only: tuple[str, ...], limit: int, say: Callable[[str], None]) -> dict[str, Any]:
    """{"domain", "bundle", "router": {...}, "generator": {"base", "few_shot", "tuned"}, "conversations": ...}.

    `limit`: at most so many held-out questions for the generator and end to end, drawn by the hash of their id; 0: all.
    """
    domain, settings = agent.domain, agent.settings
    if version != "champion":
        agent = replace(agent, serving=Serving.load(domain, settings, Bases.ensure(settings), version))
    serving, wanted = agent.serving, only or PARTS
    table: dict[str, Any] = {"domain": domain.name, "bundle": serving.bundle.name}
    if "router" in wanted:
        say("router ...")
        table["router"] = evaluate.router_report(serving.router, domain.rows("eval/intents.jsonl"), domain.rows("eval/oos.jsonl"))
    if "retrieval" in wanted:
        table["retrieval"] = evaluate.retrieval_report(domain, serving.index)
    if "red_flags" in wanted and (flags := evaluate.red_flags_report(domain)):
        table["red_flags"] = flags
    if "conversations" in wanted:
        say("conversations ...")
        table["conversations"] = evaluate.conversations_report(agent)
    if "end_to_end" in wanted:
        say("questions through the whole agent ...")
        table["end_to_end"] = _end_to_end(agent, limit)
    if "generator" in wanted:
        table["generator"] = _arms(agent, limit, say)
    return table


def _arms(agent: Agent, limit: int, say: Callable[[str], None]) -> dict[str, Any]:
    domain, settings, serving = agent.domain, agent.settings, agent.serving
    rows = evaluate.questions(domain, _drawn(domain, limit), serving.index.search)
    prompts = [prompt.render(domain, sources, example.history, example.question) for example, sources, _ in rows]
    base = Bases.ensure(settings).generator
    arms = {"base": (prompts, None), "few_shot": ([evaluate.few_shot(domain, messages) for messages in prompts], None),
            "tuned": (prompts, serving.bundle.part("generator"))}
    table = {}
    for arm, (messages, adapter) in arms.items():
        key = base.fingerprint if adapter is None else json.dumps(serving.bundle.manifest["files"], sort_keys=True)
        cached = settings.home / "answers" / f"{_digest(key, messages, settings.max_new_tokens)}.json"
        if not cached.is_file():
            _write(cached, messages, BatchWriter(base, adapter, settings.cores), settings.max_new_tokens, f"generator, {arm}", say)
        table[arm] = evaluate.generator_report(domain, rows, json.loads(cached.read_text(encoding="utf-8")))
    return table


def _drawn(domain: Domain, limit: int) -> list[dict]:
    """At most `limit` held-out questions, the same ones every time; 0: all."""
    rows = domain.rows("eval/questions.jsonl")
    return sorted(rows, key=lambda row: hashlib.sha256(row["id"].encode()).digest())[:limit] if limit else rows


def _digest(key: str, prompts: list[list[Message]], limit: int) -> str:
    """Greedy answers are a function of weights and prompts, so the same question is not computed twice."""
    return hashlib.sha256(json.dumps([key, prompts, limit]).encode()).hexdigest()[:32]


def _write(file: Path, prompts: list[list[Message]], writer: BatchWriter, limit: int, name: str, say: Callable[[str], None]) -> None:
    answers = [""] * len(prompts)
    for done, (i, text) in enumerate(writer.write(prompts, limit), start=1):
        answers[i] = text
        if done % 16 == 0 or done == len(prompts):
            say(f"{name}: {done} of {len(prompts)}")
    file.parent.mkdir(parents=True, exist_ok=True)
    scratch = file.with_suffix(".tmp")
    scratch.write_text(json.dumps(answers), encoding="utf-8")
    scratch.replace(file)


def _end_to_end(agent: Agent, limit: int) -> dict[str, Any]:
    """The held-out questions asked of the whole agent, with routing and retrieval."""
    said, refused_right, rows = [], [], _drawn(agent.domain, limit)
    first_words = []
    with tempfile.TemporaryDirectory() as folder:
        store = Store(f"sqlite:///{folder}/store.db")
        store.open()
        fresh = replace(agent, store=store, redactors={}, tool_state=Path(folder) / "tools")
        for row in rows:
            history = row.get("history", [])
            if history:  # the turn before is asked first, so that a follow-up has something to follow
                asyncio.run(fresh.ask(history[0], row["id"]))
            done = asyncio.run(fresh.ask(row["question"], row["id"]))
            if "first_word" in done.turn.timings_ms:
                first_words.append(done.turn.timings_ms["first_word"])
            refused = done.turn.abstained or done.turn.state == "refused"
            refused_right.append(refused != row["answerable"])
            if row["answerable"]:
                said.append(not refused and metrics.must_say(done.reply, row["must_say"]))
        store.close()
    first_words.sort()
    return {"n": len(rows), "must_say": sum(said) / len(said), "refusal_accuracy": sum(refused_right) / len(refused_right),
            "first_word_ms_median": first_words[len(first_words) // 2] if first_words else None}
