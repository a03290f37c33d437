"""One part tuned as its recipe says, whoever asks: search, augmentation, several seeds averaged, preferences afterwards.

Knows the order of these; each of them is a room of its own. Publishes nothing.
"""

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from agent.domain import Domain
from agent.models import BaseModel
from tuning import augment, average, preference, search, train_generator, train_router
from tuning.dataset import Text
from tuning.recipe import Recipe
from tuning.rows import Row
from tuning.steps import Note, TrainStep

Paraphrase = Callable[[str], str]


def tune_router(rows: Sequence[Text], held: Sequence[Text], recipe: Recipe, base: BaseModel, out: Path, threads: int, *,
                state: Path | None = None, paraphrase: Paraphrase | None = None,
                label: Callable[[Sequence[str]], Sequence[str]] | None = None) -> Iterator[TrainStep | Note]:
    """Write a router folder to `out`. `held` is for stopping and calibration alone; `state`: where an interrupted run lies.

    `paraphrase` and `label` (texts -> intents, of the champion's router) are needed where the recipe asks for paraphrases.
    """
    if recipe.search.trials and recipe.search.minutes:
        found: list[Any] = []
        for step in search.search_router(rows, recipe, base, threads, held=held):
            (yield step) if isinstance(step, TrainStep | Note) else found.append(step)
        recipe = found[-1]
    seeds = [recipe.seed + i for i in range(recipe.router.seeds)]
    made = []
    for seed in seeds:
        folder = out if len(seeds) == 1 else out / f"seed-{seed}"
        folder.mkdir(parents=True, exist_ok=True)
        yield from train_router.train(
            rows, recipe.router, base, seed, folder, threads, held, state and state / str(seed),
            augment=lambda fit, seed=seed: augment.augment(fit, recipe.augment, seed, paraphrase, label))
        made.append(folder)
    if len(seeds) > 1:
        average.average_routers(made, out, held, recipe.router, base, threads)
        for folder in made:
            shutil.rmtree(folder)


def tune_generator(sources: Sequence[train_generator.Source], recipe: Recipe, base: BaseModel, out: Path, threads: int, *,
                   state: Path | None = None) -> Iterator[TrainStep | Note]:
    """Write a generator folder to `out` from grounded rows; preferences come after it, see `prefer`."""
    seeds = [recipe.seed + i for i in range(recipe.generator.seeds)]
    made = []
    for seed in seeds:
        folder = out if len(seeds) == 1 else out.with_name(f"{out.name}-{seed}")
        yield from train_generator.train(sources, recipe.generator, base, seed, folder, threads, state and state / str(seed))
        made.append(folder)
    if len(seeds) > 1:
        average.average_adapters(made, out)
        for folder in made:
            shutil.rmtree(folder)


def prefer(rows: Sequence[Row], recipe: Recipe, base: BaseModel, domain: Domain, start: Path, out: Path,
           threads: int) -> Iterator[TrainStep | Note]:
    """Go on from the tuned adapter `start` with what people preferred; written to `out`, so that each stage can be judged."""
    yield from preference.train(rows, recipe.preference, base, start, domain, recipe.seed, out, threads)
