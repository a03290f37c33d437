"""A small search before a run: learning rate, rank and epochs by the held-out loss, inside a budget of minutes.

Optuna proposes (TPE, in memory, fixed seed) and stops what is worse than the median. Knows objectives that yield
TrainSteps; test rows never come here.
"""

import math
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from agent.errors import DataError
from agent.models import BaseModel
from tuning import train_generator, train_router
from tuning.dataset import Text, split_rows
from tuning.recipe import GeneratorRecipe, RouterRecipe
from tuning.steps import Note, TrainStep

STARTUP = 4
"""Trials before the search looks at what was found and prunes: the given values, then drawn ones."""
RANKED = ("lora", "rslora", "adalora", "prefix")


@dataclass(frozen=True, slots=True)
class Range:
    """Numbers from `low` to `high`, both included."""

    low: float
    high: float
    log: bool = False
    whole: bool = False


Space = Mapping[str, Range | Sequence[Any]]
"""Name -> a range, or the values to choose from."""
Objective = Callable[[dict[str, Any]], Iterable[TrainStep | Note]]
"""Values -> the steps of a run with them; a step's `held_out` is the loss that counts, the least of a run its result."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One run of the search."""

    values: dict[str, Any]
    loss: float | None
    """The least held-out loss; None if no epoch ended."""
    state: str
    """done, pruned (worse than the median of the others after as many epochs), stopped (no time left) or failed (no loss)."""
    seconds: float


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What was tried, and the values of the best run that went to its end."""

    best: dict[str, Any]
    """Empty if none did."""
    trials: tuple[Trial, ...]


def search(objective: Objective, space: Space, minutes: float, trials: int, seed: int, *,
           first: Mapping[str, Any] | None = None, cost: Callable[[Mapping[str, Any]], float] = lambda values: 1.0,
           watch: Callable[[Any], None] = lambda step: None, clock: Callable[[], float] = time.monotonic) -> SearchResult:
    """Try at most `trials` values of the space in at most `minutes`, and one step more.

    No run starts that would take longer than is left, judged by the slowest finished one and `cost`, how long a run takes
    relative to others; a run that meets the deadline all the same is stopped at its next step. `first`: values that are
    tried before all others, such as those of the recipe at hand. clock: seconds that only grow.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(n_startup_trials=STARTUP, seed=seed),
                                pruner=optuna.pruners.MedianPruner(n_startup_trials=STARTUP - 1))
    if first:
        study.enqueue_trial(dict(first))
    tried: list[Trial] = []
    deadline, pace = clock() + 60 * minutes, 0.0
    while len(tried) < trials and clock() < deadline:
        asked = study.ask()
        values = {name: _suggest(asked, name, choices) for name, choices in space.items()}
        if clock() + pace * cost(values) > deadline:
            break
        trial = _try(objective, values, asked, deadline, watch, clock, forgiving=bool(tried))
        if trial.state == "done":
            study.tell(asked, trial.loss)
            pace = max(pace, trial.seconds / cost(values))
        else:
            study.tell(asked, state=getattr(optuna.trial.TrialState, "PRUNED" if trial.state == "pruned" else "FAIL"))
        tried.append(trial)
    best = min((trial for trial in tried if trial.state == "done"), key=lambda trial: trial.loss or 0.0, default=None)
    return SearchResult(dict(best.values) if best else {}, tuple(tried))


def search_router(rows: Sequence[Text], recipe: RouterRecipe, base: BaseModel, minutes: float, trials: int, seed: int,
                  threads: int, *, held: Sequence[Text] | None = None, watch: Callable[[Any], None] = lambda step: None,
                  **more: Any) -> tuple[RouterRecipe, SearchResult]:
    """The recipe with the best rate, rank and epochs that the budget allowed to find, or as it is if no run ended.

    Every run trains on the same rows and is judged on the same others: `held`, or the recipe's share split off here.
    `more` goes to tuning.train_router.train.
    """
    fit, judged = (list(rows), list(held)) if held else split_rows(rows, recipe.held_out, seed)

    def run(values: dict[str, Any], folder: Path) -> Iterable[TrainStep | Note]:
        return train_router.train(fit, changed(recipe, values), base, seed, folder, threads, held=judged, **more)

    return _search_part(recipe, run, minutes, trials, seed, watch)


def search_generator(sources: Sequence[train_generator.Source], recipe: GeneratorRecipe, base: BaseModel, minutes: float,
                     trials: int, seed: int, threads: int, *, watch: Callable[[Any], None] = lambda step: None,
                     **more: Any) -> tuple[GeneratorRecipe, SearchResult]:
    """As `search_router`, on the articles that the recipe holds out; `more` goes to tuning.train_generator.train."""
    def run(values: dict[str, Any], folder: Path) -> Iterable[TrainStep | Note]:
        return train_generator.train(sources, changed(recipe, values), base, seed, folder, threads, **more)

    return _search_part(recipe, run, minutes, trials, seed, watch)


def around(recipe: Any) -> dict[str, Range | Sequence[Any]]:
    """The space about a recipe of either part: a quarter to four times its rate, half to twice its rank and its epochs."""
    name = "head_learning_rate" if recipe.method == "head" else "learning_rate"
    rate = getattr(recipe, name)
    space: dict[str, Range | Sequence[Any]] = {name: Range(rate / 4, rate * 4, log=True)}
    if recipe.method in RANKED:
        space["rank"] = sorted({max(1, recipe.rank // 2), recipe.rank, 2 * recipe.rank})
    return space | {"epochs": Range(max(1, recipe.epochs // 2), 2 * recipe.epochs, whole=True)}


def changed(recipe: Any, values: Mapping[str, Any]) -> Any:
    """The recipe with those values; alpha grows with the rank, so that the scale of LoRA stays."""
    alpha = max(1, round(recipe.alpha * values.get("rank", recipe.rank) / recipe.rank))
    return replace(recipe, **values, alpha=alpha)


def _search_part(recipe: Any, run: Callable[[dict[str, Any], Path], Iterable[Any]], minutes: float, trials: int, seed: int,
                 watch: Callable[[Any], None]) -> tuple[Any, SearchResult]:
    space = around(recipe)

    def objective(values: dict[str, Any]) -> Iterable[TrainStep | Note]:
        with tempfile.TemporaryDirectory() as folder:
            yield from run(values, Path(folder))

    first = {name: getattr(recipe, name) for name in space}
    result = search(objective, space, minutes, trials, seed, first=first, cost=lambda values: values["epochs"], watch=watch)
    return (changed(recipe, result.best) if result.best else recipe), result


def _suggest(asked: Any, name: str, choices: Range | Sequence[Any]) -> Any:
    if not isinstance(choices, Range):
        return asked.suggest_categorical(name, list(choices))
    if choices.whole:
        return asked.suggest_int(name, int(choices.low), int(choices.high), log=choices.log)
    return asked.suggest_float(name, choices.low, choices.high, log=choices.log)


def _try(objective: Objective, values: dict[str, Any], asked: Any, deadline: float, watch: Callable[[Any], None],
         clock: Callable[[], float], forgiving: bool) -> Trial:
    """Run to the end, to the pruner's word or to the deadline, and close what was not finished.

    forgiving: the rows were trained on before, so what is refused now is refused for its values.
    """
    started, losses, state = clock(), [], "done"
    steps = iter(objective(values))
    try:
        for step in steps:
            watch(step)
            if isinstance(step, TrainStep) and step.held_out is not None:
                if math.isfinite(step.held_out):
                    losses.append(step.held_out)
                    asked.report(min(losses), len(losses))
                if step.done == step.total:
                    break  # measured; what would follow is its writing
                if asked.should_prune():
                    state = "pruned"
                    break
            if clock() >= deadline:
                state = "stopped"
                break
    except DataError:
        if not forgiving:
            raise
        state = "failed"
    finally:
        if close := getattr(steps, "close", None):
            close()
    return Trial(values, min(losses, default=None), "failed" if state == "done" and not losses else state, clock() - started)
