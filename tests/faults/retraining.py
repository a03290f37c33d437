"""Kills a retraining at every stage of its way, and fills its disk there; looks at what is left, and runs it again.

Every run is a fork of this process, which has loaded the libraries but no model. One home goes the whole way: at each place
of KILLS in turn it is killed with SIGKILL by itself, what a reader finds is checked, and a copy of the home is run to its end
by the same call. A second home meets a full disk at each place of FULL. Prints one JSON object; a breach is a line of
`breaches`, by what was done. It needs Linux. Usage: python retraining.py FOLDER MODELS
"""

import importlib
import json
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file
from strikes import Patch, Strike, called, die, fill, halfway, of_work, part_of, second, strike_at, to
from taught import library
from test_loop import HELD, SAID, accept_all, champion, teach

from agent import aliases, audit, paths
from agent.domain import Domain
from agent.errors import RetuneError
from agent.models import find
from agent.registry import Registry
from agent.serving import Bases
from agent.settings import Settings
from agent.store import Store
from tuning import calibration, dataset, loop, outcomes, page, quarantine, recipe, states, train_router, trainer
from tuning.runs import Outcome
from tuning.steps import TrainStep
from tuning.workshop import Workshop

EVERY = 3  # steps between two states


@dataclass(frozen=True)
class Place:
    """Where a run is struck, and what a rerun has to do then."""

    name: str
    patch: Patch
    begins: int | None = None
    """Step that the rerun's training tells first; 0: the last, it is done; None: it does not come to training.

    A run that goes on from a state behind the first epoch begins by telling that state's own step."""
    champion: int = 2
    """Version that is champion when the run was struck."""
    apart: bool = False
    """Whether it is struck in a copy, as the next place could not be reached from there."""


KILLS = (
    Place("before the first step", strike_at(trainer, "_train"), 1),
    Place("in the fifth step", halfway(of_work("curve-router.jsonl"), 5), EVERY + 1),
    Place("in the middle of a state", strike_at(states.Progress, "write", lambda progress, *_: progress.done == 6, after=True),
          EVERY + 1),
    Place("before a whole state counts", strike_at(os, "replace", to("checkpoint-6")), EVERY + 1),
    Place("before the state before it goes", strike_at(os, "replace", to("checkpoint-6"), after=True), 2 * EVERY),
    Place("in the middle of the router's files", strike_at(calibration, "write_router"), 0),
    Place("in the middle of the router's mark", halfway(of_work("router.json")), 0),
    Place("after the router's mark", strike_at(Workshop, "_stage", lambda shop, part, steps: part == "generator")),
    Place("in the middle of the other part's copy", strike_at(shutil, "copyfile", part_of("generator"))),
    Place("in the middle of the comparison", strike_at(outcomes, "routed", second())),
    Place("between the report's two files", strike_at(os, "replace", to("report.html"))),
    Place("after the report", strike_at(page, "write_report", after=True)),
    Place("in the middle of the manifest", halfway(called("manifest.json"))),
    Place("published and not yet told", strike_at(os, "replace", to("0003"), after=True), apart=True),
    Place("after the bundle was published", strike_at(Registry, "publish", after=True)),
    Place("as challenger, before its promotion", strike_at(Registry, "promote")),
    Place("in the middle of the promotion",
          strike_at(aliases, "write", lambda file, new: new.names["champion"] == 3, after=True), champion=3, apart=True),
    Place("after the promotion", strike_at(Workshop, "clear"), champion=3),
)
FULL = (
    Place("a state", strike_at(states.Progress, "write", lambda progress, *_: progress.done == 6)),
    Place("a line of the curve", halfway(of_work("curve-router.jsonl"), 3)),
    Place("the router's files", strike_at(calibration, "write_router")),
    Place("the router's mark", halfway(of_work("router.json"))),
    Place("the other part's copy", strike_at(shutil, "copyfile", part_of("generator"))),
    Place("the report", halfway(called(".report.html.new"))),
    Place("the published copy", strike_at(shutil, "copyfile", part_of(".0003.new"))),
    Place("the manifest", halfway(called("manifest.json"))),
    Place("the aliases", halfway(called(".aliases.json"))),
    Place("the row of the promotion", strike_at(audit.Chain, "add", lambda chain, row: row["what"] == "promote"), champion=3),
)


def prepare(folder: Path, models: Path) -> tuple[Domain, recipe.Recipe]:
    """A domain, a recipe of some steps, and in `start` a home: champion 2 mixes two intents up, accepted rows say it right."""
    domain = library(folder / "library")
    for name, rows in (("intents", [{"text": text, "intent": intent} for intent, texts in HELD.items() for text in texts[::2]]),
                       ("oos", [{"text": "who won the football match"}, {"text": "write me a poem about cheese"}]),
                       ("safety", [{"text": "get me a colleague at once", "never": ["opening"]}])):
        (domain.folder / "eval" / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (domain.folder / "eval" / "conversations.jsonl").unlink()
    young = (paths.RECIPES / "young.toml").read_text(encoding="utf-8")
    for old, new in (("epochs = 12", "epochs = 3"), ("batch = 32", "batch = 16"), ("save_every = 50", f"save_every = {EVERY}")):
        assert old in young, old
        young = young.replace(old, new, 1)
    (folder / "quick.toml").write_text(young, encoding="utf-8")
    plan = recipe.load(folder / "quick.toml")
    (folder / "start").mkdir()
    (folder / "start" / "models").symlink_to(models, target_is_directory=True)
    settings = replace(Settings.load(home=folder / "start"), threads=1)

    def fill_home() -> dict[str, Any]:
        bases, router = Bases(find("minilm", settings), find("smollm2", settings)), folder / "trained"
        router.mkdir()
        rows = [*dataset.router_rows(domain), *(dataset.Text(text, name) for name, texts in SAID.items() for text in texts)]
        list(train_router.train(rows, replace(plan.router, epochs=4), bases.encoder, 1, router, 1))
        other = folder / "built" / "generator"
        other.mkdir(parents=True)
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            (other / name).write_text("taken over as it is", encoding="utf-8")
        champion(Domain.load(domain.folder), settings, bases, router, folder, swapped=("borrowing", "opening"))
        with closing(Store(settings.database_url)) as store:
            store.open()
            quarantine.trust(store, "ann")
            teach(domain, store)
            accept_all(domain, store, bases, settings)
        return {"modules": [name for name in sys.modules if name not in before]}

    before = set(sys.modules)
    ended, said = fork(fill_home)
    assert said is not None, f"the home was not made: {ended}"
    for name in said["modules"]:  # loaded once for all forks; nothing was run here that would have started threads
        with suppress(ImportError):
            importlib.import_module(name)
    return Domain.load(domain.folder), plan


def fork(work: Callable[[], dict[str, Any]]) -> tuple[int, dict[str, Any] | None]:
    """(signal that ended the fork, what its work gave); None if it did not come to its end."""
    told, tell = os.pipe()
    if not (child := os.fork()):
        code = 1
        try:
            os.write(tell, json.dumps(work()).encode())
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    os.close(tell)
    with os.fdopen(told, "rb") as stream:
        said = stream.read()
    _, status = os.waitpid(child, 0)
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0, json.loads(said) if said else None


def retrain(domain: Domain, home: Path, plan: recipe.Recipe) -> dict[str, Any]:
    """{"status", "words", "steps": those told in training} of the call that is struck and run again."""
    settings = replace(Settings.load(home=home), threads=1)
    bases = Bases(find("minilm", settings), find("smollm2", settings))
    steps: list[int] = []
    end = Outcome("failed", "it came to no end")
    with closing(Store(settings.database_url)) as store:
        store.open()
        try:
            for step in loop.retrain(domain, settings, plan, bases, store, ahead_s=0):
                if isinstance(step, Outcome):
                    end = step
                elif isinstance(step, TrainStep):
                    steps.append(step.done)
        except RetuneError as error:
            return {"status": type(error).__name__, "words": str(error), "steps": steps}
    return {"status": end.status, "words": end.words, "steps": steps}


def look(registry: Registry, version: int) -> Iterator[str]:
    """What a reader finds wrong, without anything being put right first; `version` has to be champion."""
    try:
        found = registry.get()
        found.verify()
        if found.version != version:
            yield f"the champion is {found.version}, not {version}"
        for bundle in (*registry.versions(), *map(registry.get, registry.aliases())):
            bundle.verify()
            if bundle.version not in (2, 3):
                yield f"there is a version {bundle.version}"
    except Exception as error:  # whatever it is, it is a breach
        yield f"{type(error).__name__}: {error}"


def finished(registry: Registry, reference: dict[str, np.ndarray]) -> Iterator[str]:
    """What is wrong after the rerun: one new bundle, promoted once, with the router of a run that nobody struck."""
    yield from look(registry, 3)
    told = [row for row in registry.audit() if row["what"] == "promote" and row["detail"]["to"]["champion"] == 3]
    if len(told) != 1:
        yield f"the chain tells its promotion {len(told)} times"
    if [bundle.version for bundle in registry.versions()] != [2, 3]:
        yield f"the versions are {[bundle.version for bundle in registry.versions()]}"
    yield from audit.verify(registry.folder / "audit.jsonl")
    yield from registry.problems()
    if left := [path.name for path in (registry.folder.parent.parent / "training").iterdir() if path.is_dir()]:
        yield f"{left} are left of the work"
    if [path for path in registry.folder.iterdir() if path.name.endswith(".new")]:
        yield "half a bundle is left"
    found = weights(registry)
    if off := [name for name, value in reference.items() if not np.allclose(found[name], value, atol=1e-5)]:
        yield f"{off[0]} is not as in a run that was not struck"


def weights(registry: Registry) -> dict[str, np.ndarray]:
    """Every tensor of the champion's router."""
    folder = registry.get().path / "router"
    return {f"{file.name} {name}": value for file in sorted(folder.rglob("*.safetensors"))
            for name, value in load_file(file).items()}


class Rooms:
    """Homes side by side, all begun as copies of `start`."""

    def __init__(self, folder: Path, models: Path) -> None:
        self.folder = folder
        self.domain, self.plan = prepare(folder, models)
        self.reference: dict[str, np.ndarray] = {}
        self.steps = 0

    def copy(self, name: str, of: str = "start") -> Registry:
        """A home anew, as another one is now."""
        shutil.rmtree(self.folder / name, ignore_errors=True)
        shutil.copytree(self.folder / of, self.folder / name, symlinks=True)
        return Registry(self.domain, self.folder / name)

    def run(self, name: str, place: Place | None = None, strike: Strike = die) -> tuple[int, dict[str, Any]]:
        """(signal that ended it, what it came to) of a retraining in a fork of its own, struck at a place if there is one."""

        def work() -> dict[str, Any]:
            if place:
                place.patch(strike)
            return retrain(self.domain, self.folder / name, self.plan)

        ended, said = fork(work)
        return ended, said or {"status": f"ended by {ended}", "words": "", "steps": []}

    def measure(self) -> list[str]:
        """A run that nobody strikes is what the others are held against."""
        registry, (_, whole) = self.copy("whole"), self.run("whole")
        self.reference, self.steps = weights(registry), max(whole["steps"], default=0)
        return [f"not struck: {found}" for found in finished(registry, self.reference)]

    def kill(self, place: Place) -> tuple[dict[str, Any], list[str]]:
        """(what the rerun came to, breaches); the home `killed` goes on to the next place."""
        name = "apart" if place.apart else "killed"
        registry = self.copy(name, "killed") if place.apart else Registry(self.domain, self.folder / name)
        ended, said = self.run(name, place)
        breaches = [] if ended == signal.SIGKILL else [f"it was not killed: {said}"]
        breaches += look(registry, place.champion)
        again = self.copy("again", name)
        _, rerun = self.run("again")
        if rerun["status"] != ("promoted" if place.champion == 2 else "nothing"):
            breaches.append(f"run again: {rerun}")
        wanted = [] if place.begins is None else [place.begins or self.steps]
        if rerun["steps"][:1] != wanted:
            breaches.append(f"run again: its training began with {rerun['steps'][:1]}, not {wanted}")
        breaches += [f"run again: {found}" for found in finished(again, self.reference)]
        return rerun, [f"{place.name}: {breach}" for breach in breaches]

    def fill(self, place: Place) -> tuple[str, list[str]]:
        """(what is said, breaches) of a disk that is full there; the home `full` goes on to the next place."""
        _, said = self.run("full", place, fill)
        breaches = [] if said["status"] == "StoreError" else [f"no error: {said}"]
        breaches += look(Registry(self.domain, self.folder / "full"), place.champion)
        return said["words"], [f"{place.name}: {breach}" for breach in breaches]


def main(folder: Path, models: Path) -> dict[str, Any]:
    """{"killed": {place: rerun}, "full": {place: words}, "breaches": {"killed": [...], "full": [...]}}."""
    rooms = Rooms(folder, models)
    breaches: dict[str, list[str]] = {"killed": rooms.measure(), "full": []}
    killed, full = {}, {}
    rooms.copy("killed")
    for place in KILLS:
        killed[place.name], found = rooms.kill(place)
        breaches["killed"] += found
    registry = rooms.copy("full")
    for place in FULL:
        full[place.name], found = rooms.fill(place)
        breaches["full"] += found
    _, rerun = rooms.run("full")
    breaches["full"] += [] if rerun["status"] == "nothing" else [f"run again: {rerun}"]
    breaches["full"] += [f"run again: {found}" for found in finished(registry, rooms.reference)]
    return {"killed": killed, "full": full, "breaches": breaches}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), Path(sys.argv[2]))))
