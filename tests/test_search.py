"""The search: finds the better end of a known function, keeps its budget by a clock of its own, and changes real recipes."""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import pytest

from agent.errors import DataError
from agent.models import find
from agent.settings import Settings
from tuning import recipe, search
from tuning.dataset import OOS, Text
from tuning.search import Range
from tuning.steps import Note, TrainStep

SPACE = {"rate": Range(1e-5, 1e-1, log=True), "rank": (4, 8, 16), "epochs": Range(1, 6, whole=True)}


class Clock:
    """Seconds that pass only when a step is made."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def curve(values: dict[str, Any]) -> float:
    """Least, 0.1, at rate 1e-3 and rank 8."""
    return 0.1 + abs(math.log10(values["rate"]) + 3) + (values["rank"] != 8)


def runs(clock: Clock, made: list[dict[str, Any]], epochs: int = 3, seconds: float = 10.0, each: int = 5) -> Any:
    """An objective of `each` steps an epoch that take `seconds` each; the loss comes down to the curve's."""
    def run(values: dict[str, Any]) -> Iterator[TrainStep | Note]:
        made.append(values)
        yield Note("begins")
        for done in range(1, epochs * each + 1):
            clock.now += seconds
            epoch = (done - 1) // each
            held = curve(values) + epochs - 1 - epoch if done % each == 0 else None
            yield TrainStep("router", epoch, done, epochs * each, 1.0, held)
    return run


def test_it_finds_the_better_of_a_known_function():
    clock, made = Clock(), []
    worst = {"rate": 1e-1, "rank": 4, "epochs": 1}
    result = search.search(runs(clock, made), SPACE, 1e6, 30, 3, first=worst, clock=clock)
    assert made[0] == worst and len(made) == len(result.trials) == 30
    assert result.best["rank"] == 8 and 2e-4 < result.best["rate"] < 5e-3
    assert min(trial.loss for trial in result.trials if trial.state == "done") == pytest.approx(curve(result.best))
    assert all(1e-5 <= values["rate"] <= 1e-1 for values in made)
    assert {values["rank"] for values in made} == {4, 8, 16} and {values["epochs"] for values in made} <= set(range(1, 7))


def test_the_same_seed_tries_the_same_values():
    tried = []
    for seed in (1, 1, 2):
        made: list[dict[str, Any]] = []
        search.search(runs(clock := Clock(), made), SPACE, 1e6, 8, seed, clock=clock)
        tried.append(made)
    assert tried[0] == tried[1] != tried[2]


def test_what_is_worse_than_the_median_is_pruned_after_an_epoch():
    clock, made = Clock(), []
    result = search.search(runs(clock, made), SPACE, 1e6, 30, 3, clock=clock)
    pruned = [trial for trial in result.trials if trial.state == "pruned"]
    done = [trial.loss for trial in result.trials if trial.state == "done"]
    assert pruned and all(trial.seconds < 150 for trial in pruned)
    assert min(done) < min(curve(trial.values) for trial in pruned)


def test_no_run_starts_that_would_not_end():
    clock, made = Clock(), []
    result = search.search(runs(clock, made), SPACE, 8, 30, 3, clock=clock)  # a run takes 150 of the 480 seconds
    assert [trial.state for trial in result.trials] == ["done"] * 3 and clock.now == 450


def test_a_longer_run_is_known_to_cost_more():
    clock, made = Clock(), []
    space = {"rate": SPACE["rate"], "rank": (8,), "epochs": (1, 50)}
    result = search.search(runs(clock, made), space, 60, 30, 3, first={"rate": 1e-3, "rank": 8, "epochs": 1},
                           cost=lambda values: values["epochs"], clock=clock)
    assert {values["epochs"] for values in made} == {1} and len(result.trials) < 24


def test_a_run_that_meets_the_deadline_is_stopped_at_its_next_step_and_closed():
    clock, closed = Clock(), []

    def endless(values: dict[str, Any]) -> Iterator[TrainStep]:
        try:
            for done in range(1, 1_000_000):
                clock.now += 7
                yield TrainStep("router", 0, done, 1_000_000, 1.0, 0.5 if done == 2 else None)
        finally:
            closed.append(clock.now)

    result = search.search(endless, SPACE, 1, 30, 3, clock=clock)
    assert closed == [63] and [(trial.state, trial.loss) for trial in result.trials] == [("stopped", 0.5)] and result.best == {}


def test_a_budget_of_nothing_tries_nothing():
    clock, made = Clock(), []
    assert search.search(runs(clock, made), SPACE, 0, 30, 3, clock=clock) == search.SearchResult({}, ())
    assert search.search(runs(clock, made), SPACE, 60, 0, 3, clock=clock).trials == () and made == []


def test_values_that_training_refuses_are_passed_over_but_not_rows_that_it_refuses():
    clock = Clock()

    def refusing(values: dict[str, Any]) -> Iterator[TrainStep]:
        if values["rank"] != 8:
            raise DataError("went astray")
        yield TrainStep("router", 0, 1, 1, 1.0, 0.3)

    result = search.search(refusing, SPACE, 60, 12, 3, first={"rate": 1e-3, "rank": 8, "epochs": 1}, clock=clock)
    assert {trial.state for trial in result.trials} == {"done", "failed"} and result.best["rank"] == 8
    with pytest.raises(DataError, match="astray"):
        search.search(refusing, SPACE, 60, 12, 3, first={"rate": 1e-3, "rank": 4, "epochs": 1}, clock=clock)


def test_the_space_about_a_recipe_holds_it_and_alpha_follows_the_rank():
    router = recipe.load("default").router
    space = search.around(router)
    assert set(space) == {"learning_rate", "rank", "epochs"} and space["rank"] == [8, 16, 32]
    assert space["learning_rate"].low < router.learning_rate < space["learning_rate"].high
    assert space["epochs"] == Range(5, 20, whole=True)
    changed = search.changed(router, {"rank": 8, "learning_rate": 0.5, "epochs": 2})
    assert (changed.rank, changed.alpha, changed.learning_rate, changed.epochs) == (8, 16, 0.5, 2)
    assert dataclasses.replace(changed, rank=16, alpha=32, learning_rate=router.learning_rate, epochs=10) == router
    assert set(search.around(dataclasses.replace(router, method="head"))) == {"head_learning_rate", "epochs"}
    assert set(search.around(dataclasses.replace(router, method="full"))) == {"learning_rate", "epochs"}


WISHES = {"refund": ["I want my money back", "please refund me", "refund this order now"],
          "delivery": ["when does it arrive", "where is my parcel", "track my delivery"], OOS: ["tell me a joke", "who won"]}


def test_a_router_search_returns_a_recipe_that_it_tried(settings: Settings):
    rows = [Text(text, intent) for intent, texts in WISHES.items() for text in texts]
    small = dataclasses.replace(recipe.load("default").router, epochs=1, batch=8, rank=2, alpha=4, held_out=0.34)
    seen: list[Any] = []
    best, result = search.search_router(rows, small, find("minilm", settings), 60, 2, 1, 1, watch=seen.append)
    assert len(result.trials) == 2 and result.trials[0].values == {"learning_rate": 1e-3, "rank": 2, "epochs": 1}
    assert any(isinstance(step, TrainStep) and step.held_out is not None for step in seen)
    done = [trial for trial in result.trials if trial.state == "done"]
    assert best == search.changed(small, min(done, key=lambda trial: trial.loss).values)
