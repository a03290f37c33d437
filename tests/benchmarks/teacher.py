"""What 200 corrected answers teach the generator, and what they cost elsewhere.

A young domain is cut from a shipped one: its articles, intents and held-out rows, but a dozen grounded rows and no known
questions. The champion is the shipped router with the untuned base. Questions go through the agent, which routes them, finds
their passages and logs the prompt (its words are a placeholder: only the correction is learned); people's corrections are
the sections that answer. Then `tuning.loop.retrain` does what it does every night. The held-out questions are those of the
domain's eval/, the general set is `tuning/general.jsonl`; neither is ever trained on.

    python tests/benchmarks/teacher.py --rows 200 --limit 100
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from flywheel import make_desk

from agent import paths
from agent.agent import Agent
from agent.domain import Domain
from agent.generators.scripted import ScriptedGenerator
from agent.prompt import prompt_hash
from agent.registry import Registry
from agent.serving import Bases
from agent.settings import Settings
from tuning import loop, quarantine, recipe
from tuning.gate import Rule

HERE = Path(__file__).resolve().parent
TEACHERS = "ann", "ben"  # of one alone no more than 200 rows are trained on


def main() -> None:
    """Teach in an empty home that borrows the base models; write the table."""
    told, stages = arguments(), []
    with tempfile.TemporaryDirectory() as place:
        home, started = Path(place), time.perf_counter()
        for name in ("models", "index", "answers"):
            (paths.default_home() / name).mkdir(parents=True, exist_ok=True)
            os.symlink(paths.default_home() / name, home / name, target_is_directory=True)
        source, settings = Domain.load(told.domain), Settings.load(home=home)
        traffic = make_desk(source, home / "desk", 10**6, 10**6, 0, told.seed)
        domain, bases = Domain.load(home / "desk"), Bases.ensure(settings)
        untuned(domain, source.models / "router", settings, bases, home)
        agent = Agent.load(domain.folder, generator=ScriptedGenerator("-"), home=home)
        for teacher in TEACHERS:
            quarantine.trust(agent.store, teacher)
        taught = teach(agent, traffic, told.rows, bases, settings)
        stages.append({"stage": f"{taught} questions asked and corrected", "s": round(time.perf_counter() - started, 1)})
        started, end = time.perf_counter(), None
        for step in loop.retrain(domain, settings, recipe.load(told.recipe), bases, agent.store, limit=told.limit, ahead_s=0,
                                 rule=Rule(required=())):
            if isinstance(step, loop.Outcome):
                end = step
            elif getattr(step, "held_out", 0) is not None or getattr(step, "done", 1) % 10 == 0:
                print(step, file=sys.stderr, flush=True)
        stages.append({"stage": "tuned, compared and judged", "s": round(time.perf_counter() - started, 1)})
        agent.close()
        lines = (Registry(domain, home).get(str(end.bundle)).path / "report.json").read_text(encoding="utf-8")
    report = json.loads(lines)
    row = next(row for row in report["figures"] if row["part"] == "generator")
    errors = 1 - row["champion"]
    table = {"turns": taught, "stages": stages, "total_s": round(sum(stage["s"] for stage in stages), 1),
             "status": end.status, "words": end.words, "report": {key: report[key] for key in ("figures", "generator", "rows")},
             "errors_gone": {"share": row["delta"] / errors, "low": row["low"] / errors, "high": row["high"] / errors}}
    told.out.write_text(json.dumps(table, indent=1), encoding="utf-8")
    gone = table["errors_gone"]
    print(f"errors gone: {gone['share']:.1%} ({gone['low']:.1%} to {gone['high']:.1%}); {end.status}: {end.words}")


def untuned(domain: Domain, router: Path, settings: Settings, bases: Bases, home: Path) -> None:
    """A champion of a router alone: its generator answers as its base does."""
    shutil.copytree(router, home / "built" / "router")
    registry = Registry(domain, settings.home)
    made = registry.publish(home / "built", {
        "domain": domain.name, "parent": None, "encoder": bases.encoder.fingerprint, "generator": bases.generator.fingerprint,
        "prompt": prompt_hash(domain), "made": "2000-01-01T00:00:00+00:00", "recipe": "router alone", "train_s": 0})
    registry.promote(made.version, registry.aliases().get("champion"), "the untuned generator", "benchmark")


def teach(agent: Agent, traffic: list[tuple[str, list[str]]], wanted: int, bases: Bases, settings: Settings) -> int:
    """Ask and correct until so many rows are ready to train the generator on, or no question is left; how many were asked."""
    asked = 0
    while (ready := len(loop.gather(agent.domain, agent.store, bases, settings).generator)) < wanted and asked < len(traffic):
        print(f"{asked} of {len(traffic)} questions asked, {ready} rows", file=sys.stderr, flush=True)
        for question, lessons in traffic[asked:asked + max(1, wanted - ready)]:
            done = agent.ask_sync(question, author="somebody")
            agent.feedback(done.turn.id, "correction", TEACHERS[asked % 2], lessons[0].removeprefix("/correct "))
            asked += 1
    print(f"{asked} questions asked, {ready} rows", file=sys.stderr, flush=True)
    return asked


def arguments() -> argparse.Namespace:
    """What can be said on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--domain", default="finance")
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--limit", type=int, default=100, help="held-out questions")
    parser.add_argument("--recipe", default="young")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "teacher.json")
    return parser.parse_args()


if __name__ == "__main__":
    main()
