"""Where one retraining works: a folder named by rows, recipe and champion, with a mark for each stage that is done.

A killed run leaves its folder; the same call finds it and goes on. Knows what a bundle is made of; judges nothing.
"""

import hashlib
import json
import os
import random
import shutil
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any

from agent import paths
from agent.aliases import sync
from agent.domain import Domain
from agent.encoder import Encoder
from agent.prompt import prompt_hash
from agent.registry import Bundle, Registry
from agent.retrieve import Index
from agent.router import Router
from agent.serving import Bases
from agent.settings import Settings
from tuning import compare, dataset, gate, lineage, tune
from tuning.compare import Comparison, Parts
from tuning.dataset import Dataset
from tuning.recipe import Recipe
from tuning.rows import Row
from tuning.steps import Note, TrainStep
from tuning.train_generator import Source
from tuning.verdict import Verdict

PARTS = ("router", "generator")


class Workshop:
    """The folder of one retraining; `bundle` in it becomes the published bundle."""

    def __init__(self, domain: Domain, settings: Settings, recipe: Recipe, bases: Bases, rows: Dataset, champion: Bundle,
                 unlearn: Collection[str] = ()) -> None:
        """`unlearn`: parts of the champion that learned from what was forgotten since, so nothing of them may be taken over."""
        self.domain, self.settings, self.recipe, self.bases, self.rows = domain, settings, recipe, bases, rows
        self.champion, self.unlearn, self.started = champion, unlearn, datetime.now(UTC)
        said = (rows.hash, recipe.table(), champion.hash, sorted(unlearn), *map(domain.data_hash, PARTS))
        self.key = hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]
        self.folder = paths.training(settings.home) / f"{domain.name}-{self.key}"
        sweep(domain, settings, self.folder)
        self.bundle = self.folder / "bundle"
        self.bundle.mkdir(parents=True, exist_ok=True)
        self.compared: Comparison
        self.stages: list[dict[str, Any]] = []
        self.goes_on: list[str] = []

    def judged(self, registry: Registry) -> Bundle | None:
        """The bundle made of these very rows, recipe and champion, if there is one: a verdict is not asked for twice."""
        return next((each for each in registry.versions() if each.manifest.get("work") == self.key), None)

    def tune(self) -> Iterator[TrainStep | Note]:
        """Both parts, or the champion's where nobody taught anything new for one."""
        if self.rows.router:
            dataset.check_trainable(self.rows.router, dataset.router_rows(self.domain))
        yield from self._stage("router", self._router() if self.rows.router or "router" in self.unlearn else None)
        yield from self._stage("generator", self._generator() if self.rows.generator or "generator" in self.unlearn else None)

    def compare(self, limit: int) -> Iterator[TrainStep | Note]:
        """Hold the tuned parts against the champion's; then the second stage, if the recipe has one, against the first."""
        yield Note("Comparing with the champion on rows that neither has learned from.")
        if self._first.is_dir():  # a run that was killed may have left the second stage in the bundle, or half of it
            _copy(self._first, self.bundle / "generator")
        self.compared = self._beside(Parts.of(self.champion), self.parts(), limit)
        yield from self._prefer(limit)

    def _beside(self, champion: Parts, challenger: Parts, limit: int) -> Comparison:
        return compare.compare(self.domain, champion, challenger, self.settings, self.bases, limit=limit, base=False)

    def _prefer(self, limit: int) -> Iterator[TrainStep | Note]:
        """Preferences are kept only if they are shown to beat the stage before."""
        method = self.recipe.preference.method
        rows = self.rows.pairs if method == "dpo" else self.rows.thumbs
        if method == "none":
            return
        first = self.parts()
        if not rows or first.generator is None:
            yield Note(f"Nothing was trained by {method}: it needs a tuned generator and rows that say what people preferred.")
            return
        if not self._first.is_dir():
            _copy(first.generator, self._first)
        second = Parts(f"challenger after {method}", first.router, self.folder / "preferred")
        yield from tune.prefer(rows, self.recipe, self.bases.generator, self.domain, first.generator, self.folder / "preferred",
                               self.settings.cores)
        against = self._beside(first, second, limit)
        verdict = gate.decide(against.pairs, gate.Rule(), against.targets)
        self.stages.append({"stage": method, "verdict": verdict.table(), "figures": against.table["figures"]})
        yield Note(f"{method}: {verdict.why}")
        if verdict.decision == "promote":
            _copy(self.folder / "preferred", first.generator)
            self.compared = self._beside(Parts.of(self.champion), self.parts(), limit)

    def report(self, verdict: Verdict) -> dict[str, Any]:
        """The comparison with verdict, rows, stages and learning curves: what stands in the bundle as report.json."""
        curves = [row for part in PARTS for row in self._curve(part)]
        return self.compared.table | {"verdict": verdict.table(), "rows": self.rows.summary(), "stages": self.stages,
                                      "curves": curves}

    def manifest(self, verdict: Verdict) -> dict[str, Any]:
        """Everything that says what the bundle is made of; writes recipe and lineage beside its parts."""
        (self.bundle / "recipe.json").write_text(json.dumps(self.recipe.table(), indent=1), encoding="utf-8")
        lineage.write(self.bundle, (*self.rows.router, *self.rows.generator, *self.rows.down))
        marks = {part: json.loads((self.folder / f"{part}.json").read_text(encoding="utf-8")) for part in PARTS}
        old = self.champion.manifest
        return {
            "domain": self.domain.name, "parent": self.champion.name, "encoder": self.bases.encoder.fingerprint,
            "generator": self.bases.generator.fingerprint, "prompt": prompt_hash(self.domain),
            "data": self.domain.data_hash("router") if marks["router"]["tuned"] else old.get("data"),
            "generator_data": {self.domain.name: self.domain.data_hash("generator")} if marks["generator"]["tuned"]
            else old.get("generator_data", {}),
            "recipe": self.recipe.name, "seed": self.recipe.seed, "made": self.started.isoformat(timespec="seconds"),
            "train_s": round((datetime.now(UTC) - self.started).total_seconds()),
            "held_out_loss": {part: mark["held_out"] for part, mark in marks.items() if mark["held_out"] is not None},
            "work": self.key, "learned": self.rows.hash,
            "goes_on": [part for part, mark in marks.items() if mark["goes_on"]],
            "rows": {part: len(getattr(self.rows, part)) for part in ("router", "generator", "down")},
            "evaluated": self.compared.table["evaluated"],
            "verdict": {"decision": verdict.decision, "why": verdict.why, "slice": verdict.slice},
        }

    def clear(self) -> None:
        """Nothing is left to go on with."""
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def _first(self) -> Path:
        """The generator as the first stage left it, where there is a second."""
        return self.folder / "first"

    def parts(self) -> Parts:
        """What answers for the challenger."""
        generator = self.bundle / "generator"
        return Parts("challenger", self.bundle / "router", generator if generator.is_dir() else None)

    def _router(self) -> Iterator[TrainStep | Note]:
        seeds, held = dataset.split_rows(dataset.router_rows(self.domain), self.recipe.router.held_out, self.recipe.seed)
        learned, aside = dataset.split_by_session(self.rows.router, self.recipe.router.held_out, self.recipe.seed)
        label, paraphrase = self._helpers() if self.recipe.augment.paraphrases else (None, None)
        rows, start = self._rows("router", seeds, learned, dataset.texts, lambda row: row.intent)
        yield from tune.tune_router(rows, [*held, *dataset.texts(_once(aside))], self.recipe, self.bases.encoder,
                                    self.bundle / "router", self.settings.cores, state=self.folder / "state-router",
                                    start=start, label=label, paraphrase=paraphrase)

    def _generator(self) -> Iterator[TrainStep | Note]:
        index = Index.build(self.domain, Encoder(self.bases.encoder, None, self.settings.cores), self.bases.encoder.fingerprint,
                            paths.index(self.settings.home))
        rows, start = self._rows("generator", dataset.generator_rows(self.domain), self.rows.generator, dataset.examples,
                                 lambda row: row.evidence[:1])
        source = Source(self.domain, rows, partial(index.search, unseen=True))
        yield from tune.tune_generator([source], self.recipe, self.bases.generator, self.bundle / "generator",
                                       self.settings.cores, state=self.folder / "state-generator", start=start)

    def _rows(self, part: str, seeds: Sequence[Any], learned: Sequence[Row], convert: Callable[[Sequence[Row]], list[Any]],
              kind: Callable[[Any], Any]) -> tuple[list[Any], Path | None]:
        """(rows, folder to go on from): all of them from the base, or beyond the recipe's number new ones with some old."""
        champion, replay = self.champion.part(part), self.recipe.replay
        if champion is None or part in self.unlearn or len(seeds) + len(learned) <= replay.above:
            return [*seeds, *convert(learned)], None
        self.goes_on.append(part)
        new = [row for row in learned if row.weight > 1]
        old = [*seeds, *convert([row for row in learned if row.weight == 1])]
        return [*convert(new), *draw_evenly(old, round(replay.share * len(new)), self.recipe.seed, kind)], champion

    def _helpers(self) -> tuple[Any, Any]:
        """(texts -> intents by the champion's router, text -> paraphrase by the champion's generator)."""
        from agent.generators.local import LocalGenerator

        router = Router(Parts.of(self.champion).router, self.bases.encoder, self.settings.cores)
        writer = LocalGenerator(self.bases.generator, self.champion.part("generator"), self.settings)

        def label(texts: Sequence[str]) -> list[str]:
            return [route.intent or dataset.OOS for route in router.route(texts)]

        def paraphrase(text: str) -> str:
            asked = [{"role": "user", "content": f"Say this in other words, in one sentence: {text}"}]
            return writer.write(asked, self.settings.max_new_tokens)

        return label, paraphrase

    def _stage(self, part: str, steps: Iterator[TrainStep | Note] | None) -> Iterator[TrainStep | Note]:
        """Run a stage unless it is done; what it was is written beside it, last."""
        mark, target = self.folder / f"{part}.json", self.bundle / part
        if mark.is_file():
            return
        curve: list[dict[str, Any]] = self._curve(part)
        shutil.rmtree(target, ignore_errors=True)
        if steps is None:
            if old := self.champion.part(part):
                shutil.copytree(old, target)
        else:
            with (self.folder / f"curve-{part}.jsonl").open("a", encoding="utf-8") as stream:
                for step in steps:
                    if isinstance(step, TrainStep):
                        row = {"stage": step.stage, "done": step.done, "loss": step.loss, "held_out": step.held_out}
                        stream.write(json.dumps(row) + "\n")
                        stream.flush()
                    yield step
            curve = self._curve(part)
        losses = [row["held_out"] for row in curve if row["held_out"] is not None]
        for path in target.rglob("*"):
            sync(path)  # before the mark says that it is there
        scratch = mark.with_name(f".{mark.name}")
        said = {"tuned": steps is not None, "goes_on": part in self.goes_on, "held_out": min(losses, default=None)}
        scratch.write_text(json.dumps(said), encoding="utf-8")
        sync(scratch)
        os.replace(scratch, mark)

    def _curve(self, part: str) -> list[dict[str, Any]]:
        """Loss by step; after a resume the later word counts."""
        file = self.folder / f"curve-{part}.jsonl"
        if not file.is_file():
            return []
        found = {}
        for line in file.read_text(encoding="utf-8").splitlines():
            with suppress(ValueError):  # one that was cut, with what was written after it
                row = json.loads(line)
                found[row["done"], row["held_out"] is None] = row
        return list(found.values())


def sweep(domain: Domain, settings: Settings, keep: Path | None = None) -> None:
    """Delete the folders that nobody will go on with, as rows, recipe or champion have moved on: all but `keep`."""
    for old in paths.training(settings.home).glob(f"{domain.name}-{'[0-9a-f]' * 16}"):
        if old != keep:
            shutil.rmtree(old)


def draw_evenly(rows: Sequence[Any], count: int, seed: int, kind: Callable[[Any], Any]) -> list[Any]:
    """At most `count` rows in which every kind comes as often as it can, drawn by the seed."""
    drawn = random.Random(seed)
    by_kind: dict[Any, list[Any]] = defaultdict(list)
    for row in rows:
        by_kind[kind(row)].append(row)
    piles = [drawn.sample(pile, len(pile)) for _, pile in sorted(by_kind.items(), key=repr)]
    drawn.shuffle(piles)
    return [row for layer in zip_longest(*piles) for row in layer if row is not None][:count]


def _once(rows: Sequence[Row]) -> list[Row]:
    """Without weights: what is held out is asked once."""
    return [replace(row, weight=1) for row in rows]


def _copy(source: Path, target: Path) -> None:
    """A folder in place of another, which is whole or not there."""
    scratch = target.with_name(f".{target.name}.new")
    shutil.rmtree(scratch, ignore_errors=True)
    shutil.copytree(source, scratch)
    shutil.rmtree(target, ignore_errors=True)
    os.replace(scratch, target)
