"""The agent on a real vLLM server beside that server asked plainly; what adapters cost; versions changed under streams.

Run: python tests/benchmarks/serving.py [--only overhead,throughput,adapters,swaps] [--url URL --key KEY] [--base random:1B].
Without a URL it uses the server that `retune vllm up` runs, or starts one and stops that one at the end. Writes
results/vllm.json and vllm.md beside this file after every part; what was not run is not in them. It runs unchanged on a GPU.
"""
# Not named vllm.py: Python would take that for the package vllm, since a script's folder is the first place it looks in.

import argparse
import asyncio
import gc
import json
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import speed
import swaps
from plain import Plain, linked, make_adapter, make_base
from report import device, markdown

from agent import models, paths
from agent.agent import Agent
from agent.domain import Domain
from agent.errors import EngineError
from agent.generators.tokens import Tokens
from agent.models import BaseModel
from agent.registry import Registry
from agent.settings import Settings
from agent.vllm import flags, install, local, running
from agent.vllm.wire import Limits, Server

RANK = 16
WAIT_S = 900


@dataclass(frozen=True, slots=True)
class Bench:
    """What every part needs: the server, a home of the run's own, the base model and where results go."""

    told: argparse.Namespace
    server: Server
    home: Path
    base: BaseModel
    domain: Domain
    fits: bool
    """Whether the domain's own bundle was tuned on this base, so that the agent can answer with it."""

    def agent(self, tokens: int, **more: Any) -> Agent:
        """An agent of the domain on the server, loaded and warm."""
        made = Agent.load(self.domain.name, home=self.home, vllm=self.server.url, vllm_key=self.server.key,
                          max_new_tokens=tokens, **more)
        made.serving.warm()
        return made

    def served(self) -> str:
        """The base model's name on the server."""
        return next(model.name for model in self.server.models() if not model.parent)


def main() -> None:
    """Run the parts that were asked for, each on its own, and write what they gave."""
    told = arguments()
    settings = Settings.load()
    with tempfile.TemporaryDirectory(prefix="retune-bench-") as place:
        home = Path(place)
        for name in ("models", "index"):
            (settings.home / name).mkdir(parents=True, exist_ok=True)
            os.symlink(settings.home / name, home / name, target_is_directory=True)
        known = models.ensure("smollm2", settings)
        name = told.base
        if name.startswith("random:"):
            say(f"making random weights of {name.partition(':')[2]}")
            name = str(make_base(name.partition(":")[2], known.path, home / "base"))
        settings = replace(settings, generator=name, vllm="")
        base, domain = models.ensure(name, settings), Domain.load(told.domain)
        fits = Registry(domain, home).get().manifest.get("generator") == base.fingerprint
        for plugin in {"plugin": (True,), "stock": (False,), "both": (True, False)}[told.op]:
            with a_server(told, settings, base, plugin) as (server, facts):
                table = begin(told, server, facts)
                bench = Bench(told, server, home, base, domain, fits)
                before = {model.name for model in server.models()}
                try:
                    asyncio.run(parts(bench, table, told.only if plugin or told.op == "stock" else ["adapters"]))
                finally:
                    with suppress(EngineError):  # of a server that died, which is told by what failed first
                        for model in server.models():  # the folders that they were loaded from are gone after this run
                            if model.name not in before:
                                server.unload(model.name)
    print(markdown(table))


async def parts(bench: Bench, table: dict[str, Any], wanted: list[str]) -> None:
    """Each part writes what it gave before the next begins."""
    told = bench.told
    for part in [name for name in RUN if name in wanted]:
        if not bench.fits and part in ("overhead", "throughput"):
            say(f"{part} is left out: no bundle of {bench.domain.name} was tuned on this base")
            continue
        async with Plain(bench.server.url, bench.server.key) as plain:
            made = await RUN[part](bench, plain)
        gc.collect()  # an agent that is gone no longer looks at the server
        key = f"adapters_{table['op']}" if part == "adapters" else part if part != "swaps" or bench.fits else "swaps_plain"
        table["parts"][key] = made | {"at": datetime.now(UTC).isoformat(timespec="seconds")}
        told.out.parent.mkdir(parents=True, exist_ok=True)
        told.out.write_text(json.dumps(table, indent=1), encoding="utf-8")
        told.out.with_suffix(".md").write_text(markdown(table) + "\n", encoding="utf-8")


async def overhead(bench: Bench, plain: Plain) -> dict[str, Any]:
    """See speed.overhead."""
    with closing(bench.agent(bench.told.tokens)) as agent:
        asked = speed.questions(agent, bench.told.n + speed.WARM)
        return await speed.overhead(agent, plain, await asyncio.to_thread(named, agent, bench), asked, say)


async def throughput(bench: Bench, plain: Plain) -> dict[str, Any]:
    """See speed.throughput; its questions are others than those of overhead, which the agent's prefix cache knows."""
    told = bench.told
    with closing(bench.agent(told.tokens)) as agent:
        asked = speed.questions(agent, told.n + speed.WARM + 2 * told.rounds * told.each)[told.n + speed.WARM:]
        name = await asyncio.to_thread(named, agent, bench)
        return await speed.throughput(agent, plain, name, asked, told.streams, told.rounds, told.each, say)


async def adapters(bench: Bench, plain: Plain) -> dict[str, Any]:
    """See speed.adapters; the domain's own adapter where it fits the base, else a random one for every layer."""
    told = bench.told
    part = Registry(bench.domain, bench.home).get().part("generator") if bench.fits else None
    source = part or made_once(bench)
    folders = linked(source, bench.home / "adapters")
    names = [f"bench-{number:02}" for number in range(max(told.adapters))]
    try:
        for name in names:
            await asyncio.to_thread(bench.server.load, name, str(next(folders)))
        arms = {"base": [await asyncio.to_thread(bench.served)]}
        arms |= {f"{count} adapter{'s' * (count > 1)}": names[:count] for count in told.adapters}
        asked = speed.prompts(bench.domain)
        return await speed.adapters(plain, arms, asked, told.batch, told.rounds, told.singles, 33, say) | {
            "adapter": json.loads((source / "adapter_config.json").read_text(encoding="utf-8"))["r"],
            "layers": "the upper half" if part else "all", "prompt_tokens": prompt_tokens(bench, asked)}
    finally:
        for name in names:
            await asyncio.to_thread(bench.server.unload, name)


async def swapping(bench: Bench, plain: Plain) -> dict[str, Any]:
    """See swaps.under_streams; on a base without a bundle, swaps.plainly."""
    told = bench.told
    if not bench.fits:
        folders = linked(made_once(bench), bench.home / "swaps")
        return await swaps.plainly(bench.server, plain, folders, speed.prompts(bench.domain), told.swaps, told.streams, 33, say)
    made, threads = {}, Settings.load().cores
    for word in swaps.WORDS:
        made[word] = (told.taught or bench.home / "taught") / word
        if not made[word].is_dir():
            began = time.perf_counter()
            loss = swaps.teach(bench.base, bench.domain, word, made[word], threads)
            say(f"an adapter that says {word}: loss {loss:.3f} after {time.perf_counter() - began:.0f} s")
    if told.taught:  # what the reference engine says of them is kept with them
        (told.taught / "expected").mkdir(exist_ok=True)
        paths.vllm(bench.home).mkdir(parents=True, exist_ok=True)
        os.symlink((told.taught / "expected").absolute(), paths.vllm(bench.home) / "expected", target_is_directory=True)
    log = swaps.Log()
    with closing(bench.agent(told.said, follow=True, on_notice=log.hear)) as agent:
        return await swaps.under_streams(agent, log, made, speed.questions(agent, told.questions), told.swaps, told.streams,
                                         told.answers, told.calm, 60 * told.minutes, say)


RUN = {"overhead": overhead, "throughput": throughput, "adapters": adapters, "swaps": swapping}


@contextmanager
def a_server(told: argparse.Namespace, settings: Settings, base: BaseModel,
             plugin: bool) -> Iterator[tuple[Server, dict[str, Any]]]:
    """The server to ask, and what is known of it; one that was started here is stopped here."""
    limits = Limits(first_token=600, total=1200)
    if told.url:
        server = Server(told.url.rstrip("/").removesuffix("/v1"), told.key, limits)
        yield server, {"flags": "of a server given by its URL", "op": told.label}
        return
    mine, told_at = None, 0.0
    if (here := running.now(settings.home)) is None:
        found = install.find(settings)
        found = found if plugin else replace(found, plugins=())
        options = flags.Options(slots=max(*told.adapters, 4), rank=RANK, extra=tuple(told.extra))
        wanted = flags.plan(settings, found, base, options)
        paths.vllm(settings.home).mkdir(parents=True, exist_ok=True)
        for step in local._start(wanted, settings.home, WAIT_S):  # not `up`, which leaves no plugin out
            if isinstance(step, running.Running):
                here = mine = step
            elif step.seconds >= told_at + 20:
                told_at = step.seconds
                say(f"{step.seconds:.0f} s: {step.said}")
    try:
        op = "plugin" if "cpu_lora" in here.environment.get("VLLM_PLUGINS", "") else "stock"
        yield Server(here.url, here.key, limits), {"flags": here.flags, "op": op}
    finally:
        if mine:
            local.down(settings.home)


def begin(told: argparse.Namespace, server: Server, facts: dict[str, Any]) -> dict[str, Any]:
    """The table with its head; parts of an earlier run stay if they were measured on the same machine, base and vLLM."""
    import httpx2

    version = "unknown"
    with suppress(httpx2.HTTPError, ValueError, KeyError):
        version = httpx2.get(f"{server.url}/version", trust_env=False).json()["version"]
    head = {"device": told.device or device(), "base": told.base, "vllm": version}
    old: dict[str, Any] = {}
    with suppress(OSError, ValueError):
        old = json.loads(told.out.read_text(encoding="utf-8"))
    kept = old.get("parts", {}) if all(old.get(key) == value for key, value in head.items()) else {}
    return head | facts | {"parts": kept}


def named(agent: Agent, bench: Bench) -> str:
    """What the agent's adapter goes by on the server."""
    return agent.serving.generator.adapter.name or bench.served()


def prompt_tokens(bench: Bench, asked: list[speed.Asked]) -> int:
    """The median length of the prompts."""
    tokens = Tokens(bench.base.path)
    return int(speed.share([len(tokens.encode(one.messages)) for one in asked[:50]], 0.5))


def made_once(bench: Bench) -> Path:
    """A random adapter for the base."""
    out = bench.home / "random"
    return out if out.is_dir() else make_adapter(bench.base.path, RANK, 0, out)


def say(text: str) -> None:
    """Progress."""
    print(text, file=sys.stderr, flush=True)


def arguments() -> argparse.Namespace:
    """What can be said on the command line."""
    def several(text: str) -> list[str]:
        return [word for word in text.split(",") if word]

    def numbers(text: str) -> list[int]:
        return [int(word) for word in several(text)]

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--only", type=several, default=list(RUN))
    add("--url", default="", help="of a server that runs; else the one of `retune vllm up`")
    add("--key", default=os.environ.get("RETUNE_VLLM_KEY", ""))
    add("--label", default="given", help="of the LoRA op of a server given by --url")
    add("--op", choices=("plugin", "stock", "both"), default="plugin", help="both: adapters also without ours")
    add("--base", default="smollm2", help="smollm2, a folder, or random:1B, random:2B, random:4B")
    add("--domain", default="customer_service")
    add("--n", type=int, default=48, help="questions of overhead")
    add("--tokens", type=int, default=64, help="longest answer")
    add("--streams", type=int, default=16)
    add("--rounds", type=int, default=4)
    add("--each", type=int, default=32, help="answers of a round of throughput")
    add("--singles", type=int, default=16, help="rounds of one stream of adapters")
    add("--adapters", type=numbers, default=[1, 8])
    add("--batch", type=numbers, default=[1, 16], help="streams of adapters")
    add("--swaps", type=int, default=200)
    add("--answers", type=int, default=4, help="of each version, before the next comes")
    add("--questions", type=int, default=24, help="of swaps: few, so that each version meets those whose cached prompts another "
        "version has left")
    add("--said", type=int, default=24, help="longest answer of swaps, in tokens")
    add("--minutes", type=float, default=120, help="of swaps: after that no further one begins")
    add("--calm", type=int, default=64, help="answers without swaps, before and after")
    add("--taught", type=Path, help="a folder where the adapters that swaps are told by are kept for the next run")
    add("--device", default="", help="its name, where the script would not find it")
    add("--extra", type=shlex.split, default=[], help="options for vLLM as they are, where it is started here, in one text")
    add("--out", type=Path, default=Path(__file__).parent / "results" / "vllm.json")
    told = parser.parse_args()
    if unknown := set(told.only) - set(RUN):
        parser.error(f"there is no part {', '.join(sorted(unknown))}; there are {', '.join(RUN)}")
    return told


if __name__ == "__main__":
    main()
