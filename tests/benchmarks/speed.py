"""How fast the agent is beside vLLM asked plainly, and what adapters cost vLLM: parts of tests/benchmarks/serving.py.

Both sides get the same prompts in one run, turn and turn about. No side finds the other's prompts in the server's prefix
cache: each asks with a salt of its own, so that for both of them a question is new and the persona at its beginning is not.
"""

import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import sqlalchemy as sa
from plain import Answer, Plain, side_by_side

from agent import prompt
from agent.agent import Agent
from agent.domain import Domain
from agent.schema import turns
from agent.sentences import split_sentences
from agent.types import Done, Message

WARM = 4  # questions of each side that nobody counts


@dataclass(frozen=True, slots=True)
class Asked:
    """A question and the prompt that the agent renders for it."""

    question: str
    messages: list[Message]


def questions(agent: Agent, count: int, seed: int = 7) -> list[Asked]:
    """That many of the domain's questions, in a drawn order: those that its router sends to the articles."""
    texts = sorted({row["question"] for row in agent.domain.rows("questions.jsonl")})
    random.Random(seed).shuffle(texts)
    found: list[Asked] = []
    for start in range(0, len(texts), 64):
        some = texts[start:start + 64]
        for text, route in zip(some, agent.serving.router.route(some), strict=True):
            intent = agent.domain.intents.get(route.intent or "")
            if intent and intent.answer == "docs" and not (agent.flags and agent.flags.check(text)):
                passages = agent.serving.index.search(text, prompt.MAX_FACTS)
                facts = [prompt.fact(one.title, one.heading, one.text) for one in passages]
                found.append(Asked(text, prompt.render(agent.domain, facts, (), text)))
        if len(found) >= count:
            break
    return found[:count]


def prompts(domain: Domain) -> list[Asked]:
    """Prompts as the agent renders them, for weights that no agent has: every question with two drawn facts."""
    drawn = random.Random(11)
    facts = [prompt.fact(one.title, one.heading, one.text) for one in domain.passages]
    texts = sorted({row["question"] for row in domain.rows("questions.jsonl")})
    drawn.shuffle(texts)
    return [Asked(text, prompt.render(domain, drawn.sample(facts, 2), (), text)) for text in texts]


def logged(agent: Agent, turn_id: str) -> Any:
    """The messages of a turn, as the log has them."""
    with agent.store.reading() as at:
        return at.execute(sa.select(turns.c.messages).where(turns.c.id == turn_id)).scalar()


def share(values: Sequence[float], part: float) -> float:
    """A quantile; `part` from 0 to 1."""
    return round(float(np.quantile(values, part)), 3)


async def timed(agent: Agent, question: str) -> tuple[Done, float]:
    """The turn in a session of its own, and the seconds until it was told and on the disk."""
    began = time.perf_counter()
    done = await agent.ask(question)
    return done, time.perf_counter() - began


async def overhead(agent: Agent, plain: Plain, name: str, asked: Sequence[Asked], say: Callable[[str], None]) -> dict[str, Any]:
    """Milliseconds to the first token, one stream: the agent's, from the message on, minus plain vLLM's for the same prompt."""
    rows, other = [], 0
    for number, one in enumerate(asked):
        if number % 2:
            raw = await plain.chat(name, one.messages, agent.settings.max_new_tokens, "overhead")
            done, whole = await timed(agent, one.question)
        else:
            done, whole = await timed(agent, one.question)
            raw = await plain.chat(name, one.messages, agent.settings.max_new_tokens, "overhead")
        if logged(agent, done.turn.id) != one.messages or "first_token" not in done.turn.timings_ms:
            other += 1  # routed elsewhere, redacted, or corrected by an article: no pair
        elif number >= WARM:
            spent = done.turn.timings_ms
            rows.append({"agent_ms": spent["first_token"], "vllm_ms": 1000 * raw.first, "route_ms": spent["route"],
                         "retrieve_ms": spent["retrieve"] - spent["route"], "first_word_ms": spent.get("first_word"),
                         "whole_ms": 1000 * (whole - raw.whole) if done.turn.tokens == raw.tokens else None})
            say(f"overhead {len(rows)}: agent {spent['first_token']:.0f} ms, vLLM {1000 * raw.first:.0f} ms")
    more = [row["agent_ms"] - row["vllm_ms"] for row in rows]
    whole = [row["whole_ms"] for row in rows if row["whole_ms"] is not None]
    return {"n": len(rows), "without_a_pair": other, "median_ms": share(more, 0.5), "p95_ms": share(more, 0.95),
            "agent_ms": share([row["agent_ms"] for row in rows], 0.5), "vllm_ms": share([row["vllm_ms"] for row in rows], 0.5),
            "route_ms": share([row["route_ms"] for row in rows], 0.5),
            "retrieve_ms": share([row["retrieve_ms"] for row in rows], 0.5),
            "whole_turn_median_ms": share(whole, 0.5) if whole else None, "whole_turns": len(whole),
            "rows": [{key: value and round(value, 1) for key, value in row.items()} for row in rows]}


async def throughput(agent: Agent, plain: Plain, name: str, asked: Sequence[Asked], streams: int, rounds: int, each: int,
                     say: Callable[[str], None]) -> dict[str, Any]:
    """Tokens a second of so many streams, by the server's own count.

    Prompts whose answer repeats a sentence are left out beforehand, since the agent would end them there. A turn that it ends
    early all the same counts as no tokens.
    """
    most = agent.settings.max_new_tokens
    pool, tried = [], 0
    while len(pool) < rounds * each and tried < len(asked):
        some = asked[tried:tried + each]
        tried += len(some)
        said, _ = await side_by_side([partial(plain.chat, name, one.messages, most, "choose") for one in some], streams)
        pool += [one for one, answer in zip(some, said) if not repeats(answer.text)]
    rows = []
    for number in range(len(pool) // each):
        part = pool[number * each:(number + 1) * each]
        row: dict[str, Any] = {}
        for side in ("agent", "vllm") if number % 2 else ("vllm", "agent"):
            if side == "agent":
                done, seconds = await side_by_side([partial(agent.ask, one.question) for one in part], streams)
                counts, first = [one.turn.tokens for one in done], [one.turn.timings_ms.get("first_token", 0) for one in done]
                row["without_tokens"] = counts.count(0)
            else:
                came, seconds = await side_by_side([partial(plain.chat, name, one.messages, most, "streams") for one in part],
                                                   streams)
                counts, first = [one.tokens for one in came], [1000 * one.first for one in came]
            row |= {f"{side}_tokens": sum(counts), f"{side}_s": round(seconds, 3), f"{side}_first_ms": share(first, 0.5)}
        rows.append(row)
        say(f"throughput {number + 1}: agent {row['agent_tokens'] / row['agent_s']:.1f} tokens/s, "
            f"vLLM {row['vllm_tokens'] / row['vllm_s']:.1f}")
    total = {key: sum(row[key] for row in rows) for key in rows[0] if not key.endswith("_ms")}
    speeds = {side: total[f"{side}_tokens"] / total[f"{side}_s"] for side in ("agent", "vllm")}
    ratios = [row["agent_tokens"] / row["agent_s"] / (row["vllm_tokens"] / row["vllm_s"]) for row in rows]
    return {"streams": streams, "answers": len(rows) * each, "left_out": tried - len(pool),
            "without_tokens": total["without_tokens"], "agent_tokens_s": round(speeds["agent"], 2),
            "vllm_tokens_s": round(speeds["vllm"], 2), "ratio": round(speeds["agent"] / speeds["vllm"], 3),
            "ratio_median_of_rounds": share(ratios, 0.5), "rows": rows}


def repeats(text: str) -> bool:
    """Whether a sentence comes twice, where the agent would stop."""
    said = [sentence.strip() for sentence in split_sentences(text)]
    return len(said) != len(set(said))


async def adapters(plain: Plain, arms: dict[str, Sequence[str]], asked: Sequence[Asked], streams: Sequence[int], rounds: int,
                   singles: int, tokens: int, say: Callable[[str], None]) -> dict[str, Any]:
    """First token and tokens a second of the base, one adapter and several mixed; each arm lists the names it asks, in turn.

    Every answer has `tokens` tokens. The arms follow each other in an order that turns with every round; a
    single stream has `singles` of them.
    """
    table: dict[str, Any] = {"tokens": tokens, "arms": {}}
    for wide in streams:
        seen: dict[str, list[dict[str, float]]] = {arm: [] for arm in arms}
        for number in range(-1, rounds if wide > 1 else singles):  # the first round warms up
            some = [asked[(number * wide + i) % len(asked)] for i in range(wide)]
            turned = list(arms)[number % len(arms):] + list(arms)[:number % len(arms)]
            for arm in turned:
                names = arms[arm]
                jobs = [partial(plain.chat, names[(number * wide + i) % len(names)], one.messages, tokens,
                                f"{arm} {wide}", True) for i, one in enumerate(some)]
                came, seconds = await side_by_side(jobs, wide)
                if number >= 0:
                    seen[arm].append(one_round(came, seconds))
            say(f"{wide} streams, round {number + 1}: "
                + ", ".join(f"{arm} {seen[arm][-1]['first_ms']:.0f} ms" for arm in arms if seen[arm]))
        for arm, rows in seen.items():
            table["arms"].setdefault(arm, {})[str(wide)] = {
                "n": len(rows) * wide, "first_ms": share([row["first_ms"] for row in rows], 0.5),
                "tokens_s": share([row["tokens_s"] for row in rows], 0.5),
                "written_s": share([row["written_s"] for row in rows], 0.5)}
    base = next(iter(arms))
    for found in table["arms"].values():
        for wide, row in found.items():
            plainly = table["arms"][base][wide]
            row |= {"first_ratio": round(row["first_ms"] / plainly["first_ms"], 3),
                    "tokens_ratio": round(row["tokens_s"] / plainly["tokens_s"], 3)}
    return table


def one_round(came: Sequence[Answer], seconds: float) -> dict[str, float]:
    """`tokens_s`: of all streams from question to end; `written_s`: of one stream after its first token."""
    return {"first_ms": 1000 * statistics.median(one.first for one in came),
            "tokens_s": sum(one.tokens for one in came) / seconds,
            "written_s": statistics.median((one.tokens - 1) / max(one.whole - one.first, 1e-9) for one in came)}
