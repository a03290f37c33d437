"""The whole evaluation of one bundle, part by part; arms that do not depend on the bundle are kept from run to run."""

import asyncio
import hashlib
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from agent import prompt
from agent.agent import Agent
from agent.domain import Domain
from agent.redactors import Redactors
from agent.serving import Bases, Serving
from agent.store import Store
from tuning import evaluate, judge, metrics
from tuning.answers import answers
from tuning.likelihood import log_likelihoods

PARTS = ("router", "retrieval", "generator", "end_to_end", "conversations", "red_flags")


def report(agent: Agent, version: str, only: tuple[str, ...], limit: int, say: Callable[[str], None], *,
           perplexity: bool = False, writer: str = "batch") -> dict[str, Any]:
    """{"domain", "bundle", "router": {...}, "generator": {"base", "few_shot", "tuned"}, "conversations": ...}.

    `limit`: at most so many held-out questions for the generator and end to end, drawn by the hash of their id; 0: all.
    `perplexity`: that of the reference answers, one pass an arm more. `writer`: see `tuning.answers`.
    """
    domain, settings = agent.domain, agent.settings
    if version != "champion":
        silent = None if needs_generator(only) else agent.serving.generator
        agent = replace(agent, serving=Serving.load(domain, settings, Bases.ensure(settings), version, silent))
    serving, wanted = agent.serving, only or PARTS
    table: dict[str, Any] = {"domain": domain.name, "bundle": serving.bundle.name}
    if "router" in wanted:
        say("router ...")
        inside, outside = domain.rows("eval/intents.jsonl"), domain.rows("eval/oos.jsonl")
        table["router"] = evaluate.router_report(serving.router, inside, outside, domain.languages)
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
        table["generator"] = _arms(agent, limit, perplexity, writer, say)
    return table


def needs_generator(only: tuple[str, ...]) -> bool:
    """Whether any of the parts asks the agent's own generator; the generator's arms load theirs by themselves."""
    return bool({"end_to_end", "conversations"} & set(only or PARTS))


def _arms(agent: Agent, limit: int, perplexity: bool, writer: str, say: Callable[[str], None]) -> dict[str, Any]:
    domain, settings, serving = agent.domain, agent.settings, agent.serving
    rows = judge.questions(domain, drawn(domain, limit), serving.index.search)
    prompts = [prompt.render(domain, sources, example.history, example.question) for example, sources, _ in rows]
    base = Bases.ensure(settings).generator
    arms = {"base": (prompts, None), "few_shot": ([judge.few_shot(domain, messages) for messages in prompts], None),
            "tuned": (prompts, serving.bundle.part("generator"))}
    table = {}
    for arm, (messages, adapter) in arms.items():
        said = answers(base, adapter, messages, settings, writer=writer, name=f"generator, {arm}", say=say)
        table[arm] = judge.generator_report(domain, rows, said)
        if perplexity:
            say(f"perplexity, {arm} ...")
            wanted = [(asked, row[0].answer) for asked, row in zip(messages, rows)]
            table[arm]["perplexity"] = metrics.perplexity(*zip(*log_likelihoods(base, adapter, wanted, settings.cores)))
    return table


def drawn(domain: Domain, limit: int) -> list[dict]:
    """At most `limit` held-out questions, the same ones every time; 0: all."""
    rows = domain.rows("eval/questions.jsonl")
    return sorted(rows, key=lambda row: hashlib.sha256(row["id"].encode()).digest())[:limit] if limit else rows


def _end_to_end(agent: Agent, limit: int) -> dict[str, Any]:
    """The held-out questions asked of the whole agent, with routing and retrieval."""
    said, refused_right, rows = [], [], drawn(agent.domain, limit)
    first_words = []
    with tempfile.TemporaryDirectory() as folder:
        store = Store(f"sqlite:///{folder}/store.db")
        store.open()
        fresh = replace(agent, store=store, redactors=Redactors(), tool_state=Path(folder) / "tools")
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
