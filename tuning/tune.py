"""One part tuned as its recipe says, whoever asks: search, augmentation, several seeds averaged, preferences afterwards.

Knows the order of these; each of them is a room of its own. Publishes nothing.
"""

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from agent.domain import Domain
from agent.models import BaseModel
from tuning import augment, average, preference, search, train_generator, train_router, trainer
from tuning.dataset import Text
from tuning.recipe import Recipe
from tuning.rows import Row
from tuning.steps import Note, TrainStep

Steps = Iterator[TrainStep | Note]


def tune_router(rows: Sequence[Text], held: Sequence[Text], recipe: Recipe, base: BaseModel, out: Path, threads: int, *,
                state: Path | None = None, start: Path | None = None, paraphrase: augment.Paraphrase | None = None,
                label: augment.Label | None = None) -> Steps:
    """Write a router folder to `out`. `held` is for stopping and calibration alone; `state`: where an interrupted run lies.

    start: a router folder to go on from in place of the plain base. `paraphrase` and `label` (texts -> intents, of the
    champion's router) are needed where the recipe asks for paraphrases.
    """
    how = recipe.router
    if recipe.search.trials and recipe.search.minutes:
        how = yield from _searched(lambda tell: search.search_router(
            rows, how, base, recipe.search.minutes, recipe.search.trials, recipe.seed, threads, held=held, watch=tell))

    def one(seed: int, folder: Path, state: Path | None) -> Steps:
        def noisy(fit: list[Text]) -> list[Text]:
            return augment.augment(fit, recipe.augment, seed, paraphrase, label, held)

        folder.mkdir(parents=True, exist_ok=True)
        return train_router.train(rows, how, base, seed, folder, threads, held, state, augment=noisy, start=start)

    def mean(folders: Sequence[Path]) -> None:
        average.average_routers(folders, out, base, held, how.coverage, threads)

    yield from _seeds(how.seeds, recipe.seed, out, state, one, mean)


def tune_generator(sources: Sequence[train_generator.Source], recipe: Recipe, base: BaseModel, out: Path, threads: int, *,
                   state: Path | None = None, start: Path | None = None) -> Steps:
    """Write a generator folder to `out` from grounded rows; `start`: an adapter to go on from in place of the plain base."""
    how = recipe.generator
    if recipe.search.trials and recipe.search.minutes:
        how = yield from _searched(lambda tell: search.search_generator(
            sources, how, base, recipe.search.minutes, recipe.search.trials, recipe.seed, threads, watch=tell))

    def one(seed: int, folder: Path, state: Path | None) -> Steps:
        return train_generator.train(sources, how, base, seed, folder, threads, state, start=start)

    yield from _seeds(how.seeds, recipe.seed, out, state, one, lambda folders: average.average_adapters(folders, out))


def prefer(rows: Sequence[Row], recipe: Recipe, base: BaseModel, domain: Domain, start: Path, out: Path, threads: int) -> Steps:
    """Go on from the tuned adapter `start` with what people preferred; written to `out`, so that each stage can be judged."""
    yield from preference.train(rows, recipe.preference, base, start, domain, recipe.seed, out, threads)


def _searched(look: Callable[[Callable[[Any], None]], tuple[Any, search.SearchResult]]) -> Iterator[Any]:
    """The search's steps; returns the recipe that it found."""
    found: list[Any] = []
    yield from trainer.in_steps(lambda tell: found.append(look(tell)))
    (how, result), = found
    yield Note(f"The search ran {len(result.trials)} trials; the best is {result.best or 'the recipe as it is'}.")
    return how


def _seeds(count: int, first: int, out: Path, state: Path | None, one: Callable[[int, Path, Path | None], Steps],
           mean: Callable[[Sequence[Path]], None]) -> Steps:
    """One run written to `out`, or the mean of several that differ in their seed."""
    folders = [out] if count == 1 else [out.with_name(f".{out.name}-{seed}") for seed in range(first, first + count)]
    for seed, folder in enumerate(folders, first):
        yield from one(seed, folder, state and state / str(seed))
    if count > 1:
        mean(folders)
        for folder in folders:
            shutil.rmtree(folder)
