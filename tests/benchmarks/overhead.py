"""What a turn costs beside its models: 100 turns a second in one process, each on disk before it is told, words in no time.

    python tests/benchmarks/overhead.py [--rate 100] [--seconds 30] [--database URL] [--home FOLDER] [--out FILE.json]

Two parts, with the conversations of the domain's evaluation. One after the other, with the real encoder, which says what routing
and retrieval's vectors cost. Then open loop: turns begin when a drawn clock says so, whether or not those before have ended, a
turn's time runs from that moment to its Done, and nothing is taken out of it. There the encoder gives the vectors of the first
part from memory, so that its time is excluded and all else counts: waiting for the event loop and for threads, reading the
session, the router's head, dialogue, BM25, tools, guard, the log and its fsync.
"""

import argparse
import asyncio
import gc
import json
import random
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from report import device

from agent import paths
from agent.agent import Agent
from agent.generators.scripted import ScriptedGenerator

RESULTS = Path(__file__).parent / "results"
REPLY = "You have 30 days to return an item. They run from the day on which the last parcel arrived."
SESSIONS = 300  # at 100 turns a second a person's next message comes three seconds after the one before
SCRIPTS = 30
STAGES = {"whole": "**a turn, from the moment it was due until it was told**", "late": "of it: before it began",
          "open": "of it: session read, message redacted", "route": "of it: routing without the encoder",
          "retrieve": "of it: retrieval without the encoder", "tool": "of it: tools", "log": "of it: until it was on disk and told"}
BESIDE = {"route": "routing with the encoder", "retrieve": "retrieval with the encoder", "whole": "whole turn"}


class Remembering:
    """An encoder that computes a text once; `computed` counts."""

    def __init__(self, encoder: Any) -> None:
        self._encoder, self._known, self.computed, self.reads = encoder, {}, 0, encoder.reads

    def embed(self, texts: list[str]) -> np.ndarray:
        for text in texts:
            if text not in self._known:
                self.computed += 1
                self._known[text] = self._encoder.embed([text])[0]
        return np.stack([self._known[text] for text in texts])


def conversations(agent: Agent, length: int) -> list[list[str]]:
    """What people say, in order: written conversations and single messages of the domain's evaluation, drawn."""
    drawn, folder = random.Random(5), agent.domain.folder / "eval"
    read = {name: [json.loads(line) for line in (folder / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]
            for name in ("conversations", "questions", "intents", "oos")}
    kinds = [[row["turns"] for row in read["conversations"]], [[row["question"]] for row in read["questions"]],
             [[row["text"]] for row in read["intents"]], [[row["text"]] for row in read["oos"]]]
    said: list[list[str]] = [[] for _ in range(SCRIPTS)]
    for mine in said:
        while len(mine) < length:
            mine += drawn.choice(drawn.choices(kinds, (3, 4, 2, 1))[0])
    return said


async def turn(agent: Agent, session: str, text: str, due: float) -> dict[str, Any]:
    """One turn; milliseconds from the moment at which it was due."""
    began = time.perf_counter()
    done = await agent.ask(text, session)
    whole, late, marks = 1000 * (time.perf_counter() - due), 1000 * (began - due), done.turn.timings_ms

    def between(stage: str, before: str) -> float | None:
        return marks[stage] - marks[before] if stage in marks and before in marks else None

    return {"id": done.turn.id, "state": done.turn.state, "whole": whole, "late": late, "open": marks.get("redact"),
            "route": between("route", "redact"), "retrieve": between("retrieve", "route"), "tool": between("tool", "route"),
            "log": whole - late - marks["total"]}


async def one_by_one(agent: Agent, said: list[list[str]]) -> list[dict[str, Any]]:
    """Every conversation from beginning to end."""
    return [await turn(agent, f"first{who}", text, time.perf_counter()) for who, mine in enumerate(said) for text in mine]


async def load(agent: Agent, said: list[list[str]], rate: float, seconds: float, name: str = "s"
               ) -> tuple[list[dict[str, Any]], list[str]]:
    """Every turn's row, and what failed."""
    clock, rows, failed, number = random.Random(7), [], [], 0
    running: set[asyncio.Task[Any]] = set()
    begun = due = time.perf_counter() + 0.2

    def ended(task: "asyncio.Task[Any]") -> None:
        running.discard(task)
        if error := task.exception():
            failed.append(repr(error))
        else:
            rows.append(task.result())

    while due < begun + seconds:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        turns, who = divmod(number, SESSIONS)
        task = asyncio.create_task(turn(agent, f"{name}{who}", said[who % SCRIPTS][turns], due))
        running.add(task)
        task.add_done_callback(ended)
        number += 1
        due += clock.expovariate(rate)
    while running:
        await asyncio.wait(running)
    return rows, failed


def told(rows: list[dict[str, Any]], stage: str) -> dict[str, float]:
    """Mean and quantiles, in milliseconds, of those turns that have the stage."""
    values = [row[stage] for row in rows if row[stage] is not None] or [0.0]
    p50, p99, most = (float(value) for value in np.quantile(values, (0.5, 0.99, 1.0)))
    return {"turns": len(values), "mean": round(sum(values) / len(values), 2), "p50": round(p50, 2), "p99": round(p99, 2),
            "max": round(most, 2)}


def measure(agent: Agent, rate: float, seconds: float) -> dict[str, Any]:
    """Both parts."""
    said = conversations(agent, 2 + int(rate * seconds * 1.2 / SESSIONS))
    router, index = agent.serving.router, agent.serving.index
    encoders = router.encoder, index._encoder = Remembering(router.encoder), Remembering(index._encoder)
    first = asyncio.run(one_by_one(agent, said))
    asyncio.run(load(agent, said, rate, 2.0, "warm"))
    gc.collect()
    gc.freeze()  # as `retune serve` does before it begins
    before, began = sum(each.computed for each in encoders), time.process_time()
    rows, failed = asyncio.run(load(agent, said, rate, seconds))
    return {"device": device(), "database": agent.store.engine.dialect.name, "rate": rate, "seconds": seconds, "turns": len(rows),
            "failed": len(failed), "failures": failed[:3], "busy_cores": round((time.process_time() - began) / seconds, 2),
            "lost": sum(agent.store.turn(row["id"]) is None for row in rows),
            "vectors_computed": sum(each.computed for each in encoders) - before,
            "states": dict(Counter(row["state"] for row in rows).most_common()),
            "ms": {stage: told(rows, stage) for stage in STAGES}, "beside_ms": {stage: told(first, stage) for stage in BESIDE}}


def markdown(table: dict[str, Any]) -> str:
    """The figures as a page."""
    def lines(says: dict[str, str], held: dict[str, Any]) -> list[str]:
        return ["| ms | turns | mean | p50 | p99 | max |", "|---|---|---|---|---|---|"] + [
            f"| {says[stage]} | {row['turns']} | {row['mean']:.2f} | {row['p50']:.2f} | {row['p99']:.2f} | {row['max']:.2f} |"
            for stage, row in held.items()]

    return "\n".join([
        f"# Overhead of a turn at {table['rate']:g} turns a second, on {table['device']}", "",
        f"Open loop, one process, {table['database']}: {table['turns']} turns in {table['seconds']:g} s, every one on disk before "
        f"it was told; {table['failed']} failed, {table['lost']} were not found again. The generator is instant and the encoder's "
        f"vectors come from memory ({table['vectors_computed']} did not). {table['busy_cores']} cores were busy.", "",
        *lines(STAGES, table["ms"]), "", "Beside it, one turn at a time, with the encoder computing:", "",
        *lines(BESIDE, table["beside_ms"])])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rate", type=float, default=100.0, help="turns a second")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--database", default="", help="URL of an empty PostgreSQL database; else SQLite")
    parser.add_argument("--home", type=Path, default=paths.default_home(), help="whose models are used; nothing is written there")
    parser.add_argument("--out", type=Path, default=RESULTS / "overhead.json")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="retune-overhead-") as folder:
        for name in ("models", "index"):
            if (held := asked.home / name).exists():
                (Path(folder) / name).symlink_to(held)
        agent = Agent.load("customer_service", generator=ScriptedGenerator(REPLY), home=folder, database=asked.database)
        try:
            table = measure(agent, asked.rate, asked.seconds)
        finally:
            agent.close()
    asked.out.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    asked.out.with_suffix(".md").write_text(markdown(table) + "\n", encoding="utf-8")
    print(markdown(table))


if __name__ == "__main__":
    main()
