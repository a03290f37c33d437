"""Versions change under running streams: parts of tests/benchmarks/serving.py.

Every version answers with a word of its own, so that a mixed or stale answer shows in its text, whatever names the server
and the log give it.
"""

import asyncio
import itertools
import json
import random
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import sqlalchemy as sa
from plain import Plain
from speed import Asked, share

from agent import prompt
from agent.agent import Agent
from agent.domain import Domain
from agent.errors import RetuneError
from agent.generators.tokens import Tokens
from agent.models import BaseModel
from agent.registry import Registry
from agent.schema import turns
from agent.types import Done
from agent.vllm.wire import Server

WORDS = ("amber", "violet", "silver")
FLIPS = 4  # times that a version becomes champion before the next one is published
SAYS = 24  # times a word is said in a row that teaches it
PATIENCE_S = 300.0  # for one version to answer
BY = "bench"


def teach(base: BaseModel, domain: Domain, word: str, out: Path, threads: int, steps: int = 30) -> float:
    """A LoRA adapter that answers every question by one word, over and over; returns the last step's loss."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    from tuning.methods import LINEAR
    from tuning.steps import save_adapter

    torch.set_num_threads(threads)
    torch.manual_seed(7)
    drawn, tokens = random.Random(7), Tokens(base.path)
    model = AutoModelForCausalLM.from_pretrained(base.path, dtype=torch.float32)
    half = list(range(model.config.num_hidden_layers // 2, model.config.num_hidden_layers))
    tuned = get_peft_model(model, LoraConfig(r=8, lora_alpha=16, target_modules=LINEAR["generator"], layers_to_transform=half,
                                             task_type="CAUSAL_LM"))
    moved = [value for value in tuned.parameters() if value.requires_grad]
    optimiser = torch.optim.AdamW(moved, lr=2e-3)
    facts = [prompt.fact(one.title, one.heading, one.text) for one in domain.passages]
    asked = [row["question"] for row in domain.rows("questions.jsonl")]
    answer = tokens.tokenizer.encode(" ".join([word] * SAYS), add_special_tokens=False).ids
    for number in range(steps):
        ids = tokens.encode(prompt.render(domain, drawn.sample(facts, number % 3), (), drawn.choice(asked)))
        whole = torch.tensor([ids + answer])
        target = torch.tensor([[-100] * len(ids) + answer])
        loss = tuned(input_ids=whole, labels=target).loss
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    save_adapter(tuned, out)
    return float(loss.detach())


def spoken(text: str) -> set[str]:
    """Which of the words stand in a text."""
    return {word for word in WORDS if word in text.lower()}


@dataclass
class Log:
    """What the streams met; versions are numbers of bundles."""

    words: dict[int, str] = field(default_factory=dict)
    """Version -> its word."""
    announced: list[tuple[float, int]] = field(default_factory=list)
    """(time, version) of each notice that one answers now, oldest first."""
    swapping: bool = False
    answers: list[dict[str, Any]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    quiet: int = 0
    """Turns that needed no generator."""

    def hear(self, said: str) -> None:
        """A notice of the agent's; may come from any thread."""
        if " answers now, after " in said:
            self.announced.append((time.perf_counter(), int(said.partition(" ")[0].rpartition("@")[2])))

    def take(self, done: Done, began: float, before: int, swapping: bool) -> None:
        """Judge an answer: it may come from the version that was announced last when its turn began, `before` announcements
        ago then, or from one that was announced since."""
        version, found = int(done.turn.bundle.rpartition("@")[2]), spoken(done.reply)
        said, fresh = {self.words.get(version)}, {number for _, number in self.announced[max(0, before - 1):]}
        self.answers.append({
            "began": began, "version": version, "swapping": swapping, "first_ms": done.turn.timings_ms.get("first_token", 0.0),
            "mixed": len(found) > 1, "without_a_word": not found,
            "stale": (before > 0 and version not in fresh) or (len(found) == 1 and found != said), "reply": done.reply})

    def of(self, version: int) -> list[dict[str, Any]]:
        """The answers of one version."""
        return [row for row in self.answers if row["version"] == version]


async def under_streams(agent: Agent, log: Log, parts: dict[str, Path], asked: Sequence[Asked], swaps: int, streams: int,
                        each: int, calm: int, longest: float, say: Callable[[str], None]) -> dict[str, Any]:
    """Versions are published, promoted and taken back, one after another, while that many sessions ask and ask.

    parts: word -> generator folder; each: answers of a version before the next one comes; calm: answers without swaps, before
    and after; longest: seconds after which no further swap begins. Every second swap is a rollback to the first version, which has
    another word; a new one comes after `FLIPS` promotions of the one before. `agent` follows the registry and its notices go
    to `log.hear`.
    """
    registry = Registry(agent.domain, agent.settings.home)
    starter = registry.get()
    told = {key: value for key, value in starter.manifest.items() if key not in ("files", "content")}
    kept, over, started = itertools.cycle(asked), asyncio.Event(), time.perf_counter()

    async def talk(number: int) -> None:
        while not over.is_set():
            before, swapping = len(log.announced), log.swapping
            one, began = next(kept), time.perf_counter()
            try:
                done = await agent.ask(one.question, f"bench-{number}")
            except RetuneError as error:
                log.failures.append(f"{type(error).__name__}: {error}")
                await asyncio.sleep(0.1)
                continue
            if not done.turn.engine.startswith("vllm"):
                log.quiet += 1
            else:
                log.take(done, began, before, swapping)

    async def until(true: Callable[[], Any], what: str) -> None:
        deadline = time.perf_counter() + PATIENCE_S
        while not true():
            if time.perf_counter() > deadline:
                raise TimeoutError(f"{what} took more than {PATIENCE_S:.0f} s; {list(agent.notices)[-3:]} {log.failures[-3:]}")
            await asyncio.sleep(0.01)

    async def change(word: str) -> dict[str, Any]:
        def publish() -> int:
            built = agent.settings.home / "built"
            shutil.rmtree(built, ignore_errors=True)
            shutil.copytree(starter.part("router"), built / "router")
            shutil.copytree(parts[word], built / "generator")
            return registry.publish(built, told, by=BY).version

        began, version = time.perf_counter(), await asyncio.to_thread(publish)
        log.words[version] = word
        row = await promote(version)
        return row | {"ahead_s": row["promoted"] - began}

    async def promote(version: int) -> dict[str, Any]:
        follower = agent.follower
        await asyncio.to_thread(registry.set_challenger, version, "about to be promoted", BY)  # as a retraining does
        await until(lambda: not follower.room() or (follower.ahead and follower.ahead.bundle.version == version), "loading")
        before, began = registry.aliases()["champion"], time.perf_counter()
        await asyncio.to_thread(registry.promote, version, before, "bench", BY)
        return await answered(version, began) | {"promoted": began}

    async def go_back() -> dict[str, Any]:
        began = time.perf_counter()
        chosen = await asyncio.to_thread(registry.rollback, "bench", BY)
        return await answered(chosen.version, began) | {"rollback": True}

    async def answered(version: int, began: float) -> dict[str, Any]:
        """Wait until it serves and has answered; `began`: when the alias was set."""
        await until(lambda: log.announced and log.announced[-1][1] == version, "the swap")
        served = log.announced[-1][0]

        def fresh() -> list[dict[str, Any]]:
            return [row for row in log.of(version) if row["began"] >= served]

        await until(lambda: len(fresh()) >= each, f"an answer of version {version}")
        first = min(row["began"] + row["first_ms"] / 1000 for row in fresh())
        return {"version": version, "swap_s": served - began, "first_word_s": first - began}

    talking = asyncio.gather(*(talk(number) for number in range(streams)))
    rows: list[dict[str, Any]] = []
    try:
        await change(WORDS[0])  # from the starter, which has no word
        skip = len(log.answers) + streams  # those that the starter still answers
        await until(lambda: len(log.answers) >= skip + calm, "answers without swaps")
        log.swapping = True
        for number in range(swaps):
            if time.perf_counter() - started > longest:
                break
            nth, back = divmod(number, 2)
            if back:
                rows.append(await go_back())
            elif nth % FLIPS:
                rows.append(await promote(max(log.words)))
            else:
                rows.append(await change(WORDS[1 + nth // FLIPS % 2]))
            say(f"swap {number + 1} of {swaps}: {rows[-1]['swap_s']:.2f} s, first word after {rows[-1]['first_word_s']:.2f} s; "
                + ", ".join(f"{key} {value}" for key, value in judged(log).items()))
        log.swapping = False
        enough = len(log.answers) + calm
        await until(lambda: len(log.answers) >= enough, "answers without swaps")
    finally:
        over.set()
        await talking
    return table(agent, log, rows, streams, time.perf_counter() - started)


def judged(log: Log) -> dict[str, int]:
    """Answers that name a version with a word, and what was wrong with them."""
    rows = [row for row in log.answers if row["version"] in log.words]
    return {"answers": len(rows), "failed": len(log.failures), "mixed": sum(row["mixed"] for row in rows),
            "stale": sum(row["stale"] for row in rows), "without_a_word": sum(row["without_a_word"] for row in rows)}


def table(agent: Agent, log: Log, rows: list[dict[str, Any]], streams: int, seconds: float) -> dict[str, Any]:
    """What came of it, the log's own count beside ours."""
    with agent.store.reading() as at:
        mine = sa.select(turns.c.state).where(turns.c.session.like("bench-%"))  # other parts log in the same home
        states = Counter(at.execute(mine).scalars())
    first = {kind: [row["first_ms"] for row in log.answers if row["version"] in log.words and row["swapping"] == swapping]
             for kind, swapping in (("calm", False), ("swapping", True))}
    found = judged(log) | {"swaps": len(rows), "streams": streams, "seconds": round(seconds, 1), "quiet": log.quiet,
                           "logged": sum(states.values()) - states["error"], "logged_as_error": states["error"],
                           "told": len(log.answers) + log.quiet}
    found |= {key: spread([row[key] for row in rows if key in row]) for key in ("ahead_s", "swap_s", "first_word_s")}
    found |= {"published": sum("ahead_s" in row for row in rows), "rollbacks": sum("rollback" in row for row in rows)}
    found |= {f"first_token_{kind}_ms": {"n": len(values)} | spread(values) for kind, values in first.items()}
    wrong = [row for row in log.answers
             if row["version"] in log.words and (row["mixed"] or row["stale"] or row["without_a_word"])]
    return found | {"examples": wrong[:10], "failures": log.failures[:10], "rows": rows}


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, 99th percentile and the longest."""
    return {"p50": share(values, 0.5), "p99": share(values, 0.99), "most": share(values, 1)} if values else {}


async def plainly(server: Server, plain: Plain, folders: Iterator[Path], asked: Sequence[Asked], swaps: int, streams: int,
                  tokens: int, say: Callable[[str], None]) -> dict[str, Any]:
    """The same of the server alone, for weights that no words can be taught: load, go over, drain, unload. Streams ask by name.

    folders: an adapter's folder for each version. Only a failed answer or another name than the one asked can be seen here.
    """
    now, flying, over = "", Counter(), asyncio.Event()
    rows: list[dict[str, float]] = []
    answers: list[tuple[str, float, float]] = []
    failures: list[str] = []
    kept = itertools.cycle(asked)

    async def talk() -> None:
        while not over.is_set():
            name, one = now, next(kept)
            flying[name] += 1
            try:
                came = await plain.chat(name, one.messages, tokens, "swaps", True)
                answers.append((name, came.began, came.first))
            except (RuntimeError, httpx2.HTTPError, json.JSONDecodeError) as error:
                failures.append(repr(error)[:300])
            finally:
                flying[name] -= 1

    async def load(number: int) -> tuple[str, float]:
        name, began = f"bench-swap-{number:04}", time.perf_counter()
        await asyncio.to_thread(server.load, name, str(next(folders)))
        return name, time.perf_counter() - began

    now, _ = await load(0)
    talking = asyncio.gather(*(talk() for _ in range(streams)))
    try:
        for number in range(1, swaps + 1):
            new, spent = await load(number)
            old, now, swapped = now, new, time.perf_counter()
            while flying[old] or not any(name == new for name, _, _ in answers):
                await asyncio.sleep(0.005)
            await asyncio.to_thread(server.unload, old)
            first = min(began + first for name, began, first in answers if name == new)
            rows.append({"load_s": spent, "first_word_s": first - swapped})
            say(f"swap {number} of {swaps}: loaded in {spent:.2f} s, first word after {first - swapped:.2f} s")
    finally:
        over.set()
        await talking
        await asyncio.to_thread(server.unload, now)
    return {"swaps": len(rows), "streams": streams, "answers": len(answers), "failed": len(failures), "failures": failures[:10],
            "load_s": spread([row["load_s"] for row in rows]), "first_word_s": spread([row["first_word_s"] for row in rows]),
            "first_token_ms": spread([1000 * first for _, _, first in answers])}
