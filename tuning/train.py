"""One training run: router and generator tuned from one set of rows, published as one bundle."""

import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from agent import paths
from agent.domain import Domain
from agent.encoder import Encoder
from agent.errors import BundleError
from agent.prompt import prompt_hash
from agent.registry import Bundle, Registry
from agent.retrieve import Index
from agent.serving import Bases
from agent.settings import Settings
from tuning import dataset, extend, train_generator, train_router
from tuning.recipe import Recipe
from tuning.steps import Note, TrainStep

PARTS = ("router", "generator")
HEAD = "head"
"""In place of a part: the champion's router with its encoder as it is and a new head, for new intents in seconds."""


def train(domains: Sequence[Domain], settings: Settings, recipe: Recipe, bases: Bases, *, parts: tuple[str, ...] = PARTS,
          starter: bool = False) -> Iterator[TrainStep | Note | Bundle]:
    """Yields TrainSteps, and a published Bundle for each domain; several domains share one generator adapter.

    A part that is not trained is taken from the champion; for HEAD see there. `starter`: publish to each domain's own `models/` folder.
    The same call goes on where one that was killed stood.
    """
    names = "-".join(domain.name for domain in domains)
    scratch = paths.training(settings.home) / f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{names}"
    started, losses = datetime.now(UTC), {}
    with _states(paths.training(settings.home) / f"states-{names}") as states:
        yield from _train(domains, settings, recipe, bases, parts, starter, scratch, states, started, losses)


@contextmanager
def _states(folder: Path) -> Iterator[Path | None]:
    """The folder of the trainers' states, gone after a run that ended well; None while another run has it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.with_suffix(".lock"), thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield None
        return
    try:
        yield folder
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        lock.release()


def _train(domains: Sequence[Domain], settings: Settings, recipe: Recipe, bases: Bases, parts: tuple[str, ...], starter: bool,
           scratch: Path, states: Path | None, started: datetime,
           losses: dict[str, float]) -> Iterator[TrainStep | Note | Bundle]:
    for domain in domains:
        (scratch / domain.name).mkdir(parents=True)
        yield from _watch(_router(domain, settings, recipe, bases, parts, scratch / domain.name, states), losses)
    if "generator" in parts:
        sources = [_source(domain, settings, bases) for domain in domains]
        yield from _watch(train_generator.train(sources, recipe.generator, bases.generator, recipe.seed, scratch / "generator",
                                                settings.cores, states and states / "generator",
                                                paths.training(settings.home) / "tensorboard" / scratch.name), losses)
    for domain in domains:
        yield _publish(domain, settings, recipe, bases, parts, starter, scratch, started, losses, domains)
    shutil.rmtree(scratch)


def _watch(steps: Iterable[TrainStep | Note], losses: dict[str, float]) -> Iterator[TrainStep | Note]:
    """Pass the steps on and remember the best held-out loss of each stage."""
    for step in steps:
        if isinstance(step, TrainStep) and step.held_out is not None:
            losses[step.stage] = min(step.held_out, losses.get(step.stage, step.held_out))
        yield step


def _router(domain: Domain, settings: Settings, recipe: Recipe, bases: Bases, parts: tuple[str, ...],
            folder: Path, states: Path | None) -> Iterator[TrainStep]:
    if "router" in parts:
        (folder / "router").mkdir()
        yield from train_router.train(dataset.router_rows(domain), recipe.router, bases.encoder, recipe.seed,
                                      folder / "router", settings.cores, state=states and states / f"router-{domain.name}",
                                      curves=paths.training(settings.home) / "tensorboard" / folder.parent.name / domain.name)
    elif not (parent := _champion(domain, settings)) or not (old := parent.part("router")):
        raise BundleError(f"{domain.name} has no champion to take the router from; train both parts.")
    elif HEAD in parts:
        (folder / "router").mkdir()
        extend.extend(old, dataset.router_rows(domain), bases.encoder, folder / "router", recipe.router.held_out,
                      recipe.router.coverage, recipe.seed, settings.cores)
    else:
        shutil.copytree(old, folder / "router")


def _source(domain: Domain, settings: Settings, bases: Bases) -> train_generator.Source:
    """The domain's rows with the retrieval that will serve, each row as a question that is new to it."""
    plain = Encoder(bases.encoder, None, settings.cores)
    index = Index.build(domain, plain, bases.encoder.fingerprint, paths.index(settings.home))
    return train_generator.Source(domain, dataset.generator_rows(domain), partial(index.search, unseen=True))


def _publish(domain: Domain, settings: Settings, recipe: Recipe, bases: Bases, parts: tuple[str, ...], starter: bool,
             scratch: Path, started: datetime, losses: dict[str, float], domains: Sequence[Domain]) -> Bundle:
    folder, parent = scratch / domain.name, _champion(domain, settings)
    old_manifest = parent.manifest if parent else {}
    data = domain.data_hash("router") if {"router", HEAD} & set(parts) else old_manifest.get("data")  # what the router was tuned on
    taught: dict[str, str] = {}
    if "generator" in parts:
        taught = {each.name: each.data_hash("generator") for each in domains}
        shutil.copytree(scratch / "generator", folder / "generator")
    elif parent and (old := parent.part("generator")):  # without an adapter the generator answers as its base does
        shutil.copytree(old, folder / "generator")
        taught = old_manifest.get("generator_data", {})
    (folder / "recipe.json").write_text(json.dumps(recipe.table(), indent=1), encoding="utf-8")
    manifest: dict[str, Any] = {
        "domain": domain.name, "parent": parent.name if parent and not starter else None,
        "encoder": bases.encoder.fingerprint, "generator": bases.generator.fingerprint, "prompt": prompt_hash(domain),
        "data": data, "generator_data": taught, "recipe": recipe.name, "seed": recipe.seed,
        "made": started.isoformat(timespec="seconds"), "train_s": round((datetime.now(UTC) - started).total_seconds()),
        "held_out_loss": losses,
    }
    return Registry(domain, settings.home).publish(folder, manifest, domain.models if starter else None)


def _champion(domain: Domain, settings: Settings) -> Bundle | None:
    try:
        return Registry(domain, settings.home).get("champion")
    except BundleError:
        return None
