"""What HTTP adds to a turn, and what ten times too many calls do to a server: its memory, and what those are told who must wait.

    python tests/benchmarks/http_load.py [--rate 20] [--seconds 20] [--times 10] [--home FOLDER] [--out FILE.json]

A server in a process of its own, with the real router's head, retrieval, tools, guard and log; the generator is instant and the
encoder's vectors come from memory, as in overhead.py. Calls begin when a drawn clock says so, whether or not those before have
ended. What a call takes beyond its turn's own `total` is HTTP's: parsing, keys, limits, the wait for the log's disk, JSON.
"""

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx2
from overhead import REPLY, RESULTS, Remembering, conversations
from report import device
from swaps import spread

from agent import paths
from agent.agent import Agent
from agent.generators.scripted import ScriptedGenerator
from agent.schema import turns as rows

DOMAIN = "customer_service"
SESSIONS = 200


def serve(home: Path) -> None:
    """The server: tells its address on the first line, drains on SIGTERM."""
    from agent.surfaces.http.app import make_app
    from agent.surfaces.serve import run

    agent = Agent.load(DOMAIN, generator=ScriptedGenerator(REPLY), home=home)
    router, index = agent.serving.router, agent.serving.index
    router.encoder, index._encoder = Remembering(router.encoder), Remembering(index._encoder)
    asyncio.run(run(make_app([agent]), "127.0.0.1", 0, 20))


def memory(pid: int) -> float:
    """Megabytes of a process that are in memory now."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


async def load(client: httpx2.AsyncClient, pid: int, said: list[list[str]], rate: float, seconds: float,
               name: str) -> dict[str, Any]:
    """Calls at that rate: what became of each, and the server's memory meanwhile."""
    clock, told, running = random.Random(7), [], set()
    most = first = memory(pid)
    begun = due = time.perf_counter() + 0.2

    async def call(number: int) -> None:
        turns, who = divmod(number, SESSIONS)
        mine = said[who % len(said)]
        began = time.perf_counter()
        try:
            came = await client.post("/v1/chat/completions", headers={"X-Session-Id": f"{name}{who}"}, json={
                "model": DOMAIN, "messages": [{"role": "user", "content": mine[turns % len(mine)]}]})
            told.append({"status": came.status_code, "ms": 1000 * (time.perf_counter() - began),
                         "id": (came.json().get("id") or "").removeprefix("chatcmpl-"), "again": came.headers.get("Retry-After")})
        except httpx2.HTTPError as error:
            told.append({"status": type(error).__name__, "ms": 0.0, "id": "", "again": None})

    number = 0
    while due < begun + seconds:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        task = asyncio.create_task(call(number))
        running.add(task)
        task.add_done_callback(running.discard)
        number += 1
        due += clock.expovariate(rate)
        if number % 20 == 0:
            most = max(most, memory(pid))
    while running:
        await asyncio.wait(running)
    return {"calls": number, "rate": rate, "told": told, "memory_mb": {"before": first, "most": max(most, memory(pid))}}


def judged(found: dict[str, Any], took: dict[str, float]) -> dict[str, Any]:
    """Counts and times of one load; `took`: the turns' own milliseconds by id."""
    told = found.pop("told")
    assert len(told) == found["calls"], f"{found['calls'] - len(told)} calls came to no end"
    fine = [row for row in told if row["status"] == 200]
    refused = [row for row in told if row["status"] == 429]

    beyond = [row["ms"] - took[row["id"]] for row in fine if row["id"] in took]
    return found | {
        "statuses": dict(Counter(str(row["status"]) for row in told).most_common()),
        "refused_without_retry_after": sum(not row["again"] for row in refused),
        "answered_but_not_logged": sum(row["id"] not in took for row in fine),
        "answered_ms": spread([row["ms"] for row in fine]), "beyond_the_turn_ms": spread(beyond),
        "refused_ms": spread([row["ms"] for row in refused])}


async def measure(url: str, pid: int, said: list[list[str]], rate: float, seconds: float, times: float) -> list[dict[str, Any]]:
    """Calm, overloaded twice, calm again."""
    limits = httpx2.Limits(max_connections=1000)
    async with httpx2.AsyncClient(base_url=url, timeout=120, limits=limits) as client:
        await load(client, pid, said, rate, 5.0, "warm")
        return [await load(client, pid, said, rate * factor, seconds, name)
                for name, factor in (("calm", 1), ("over", times), ("again", times), ("after", 1))]


def markdown(table: dict[str, Any]) -> str:
    """The figures as a page."""
    lines = [f"# Calls over HTTP on {table['device']}", "",
             "| calls | a second | answered | refused with 429 | other | answered, ms: p50, p99 | beyond the turn, ms: p50, p99 "
             "| refused, ms: p50, p99 | memory, MB: before, most |", "|" + "---|" * 9]
    for row in table["loads"]:
        seen = dict(row["statuses"])
        fine, refused = seen.pop("200", 0), seen.pop("429", 0)
        cells = [row["calls"], f"{row['rate']:g}", fine, refused, seen or 0,
                 *(f"{row[key]['p50']:.1f}, {row[key]['p99']:.1f}" if row[key] else "-"
                   for key in ("answered_ms", "beyond_the_turn_ms", "refused_ms")),
                 f"{row['memory_mb']['before']:.0f}, {row['memory_mb']['most']:.0f}"]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    lost = sum(row["answered_but_not_logged"] for row in table["loads"])
    without = sum(row["refused_without_retry_after"] for row in table["loads"])
    return "\n".join([*lines, "", f"{lost} answers were not in the log; {without} refusals had no Retry-After. The loads follow "
                                  "one another on one server and its client shares its cores."])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rate", type=float, default=20.0, help="calls a second that the server is meant for")
    parser.add_argument("--times", type=float, default=10.0, help="overload")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--home", type=Path, default=paths.default_home(), help="whose models are used; nothing is written there")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=RESULTS / "http_load.json")
    asked = parser.parse_args()
    if asked.serve:
        serve(asked.serve)
        return
    with tempfile.TemporaryDirectory(prefix="retune-http-") as folder:
        for name in ("models", "index"):
            if (held := asked.home / name).exists():
                (Path(folder) / name).symlink_to(held)
        server = subprocess.Popen([sys.executable, __file__, "--serve", folder], stdout=subprocess.PIPE, text=True,
                                  env=os.environ | {"RETUNE_HOME": folder})
        try:
            assert server.stdout
            url = next(word for word in server.stdout.readline().split() if word.startswith("http"))
            agent = Agent.load(DOMAIN, generator=ScriptedGenerator(REPLY), home=folder)
            said = conversations(agent, 20)
            loads = asyncio.run(measure(url, server.pid, said, asked.rate, asked.seconds, asked.times))
            with agent.store.reading() as at:
                took = {row.id: row.timings_ms["total"] for row in at.execute(rows.select())}
            agent.close()
        finally:
            server.terminate()
            server.wait(60)
    table = {"device": device(), "loads": [judged(each, took) for each in loads]}
    asked.out.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    asked.out.with_suffix(".md").write_text(markdown(table) + "\n", encoding="utf-8")
    print(markdown(table))


if __name__ == "__main__":
    main()
