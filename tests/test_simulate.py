"""A replay deals every row once, asks what it says it asks, and learns from labels alone."""

import random
from pathlib import Path

import numpy as np
import pytest

from agent.errors import DataError
from agent.models import find
from agent.settings import Settings
from tuning import curves, recipe, simulate
from tuning.dataset import Text
from tuning.simulate import Curve, Plan, Point
from tuning.steps import TrainStep

WISHES = {"refund": "I want my money back for order {}", "delivery": "when will parcel {} arrive at my door",
          "password": "how do I change the password of account {}"}


def rows(each: int) -> list[Text]:
    return [Text(words.format(number), intent) for intent, words in WISHES.items() for number in range(each)]


def play(settings: Settings, **plan) -> tuple[list[Point], Curve]:
    base = find("minilm", settings)
    steps = list(simulate.simulate(rows(30), rows(40)[-10:], Plan(**{"method": "frozen", "shots": 3, "every": 30} | plan),
                                   recipe.load("default").router, base, 1))
    return [step for step in steps if isinstance(step, Point)], steps[-1]


def test_every_row_is_dealt_once_and_each_intent_starts_with_its_shots():
    start, traffic = simulate.deal(rows(10), 4, 1)
    assert sorted(start + traffic, key=repr) == sorted(rows(10), key=repr)
    assert {intent: sum(row.intent == intent for row in start) for intent in WISHES} == dict.fromkeys(WISHES, 4)
    assert simulate.deal(rows(10), 4, 1) == (start, traffic) and simulate.deal(rows(10), 4, 2)[1] != traffic


def test_the_smallest_margins_are_asked_about_first():
    probabilities = np.array([[0.9, 0.1, 0.0], [0.5, 0.45, 0.05], [0.6, 0.2, 0.2], [0.34, 0.33, 0.33]])
    assert simulate.choose(probabilities, 2, "uncertain", random.Random(1)) == [3, 1]
    assert len(set(simulate.choose(probabilities, 3, "random", random.Random(1)))) == 3


def test_a_replay_ends_with_the_labels_that_its_plan_allows(settings: Settings):
    points, curve = play(settings, share=0.5, wrong=0.0)
    assert [point.labels for point in points] == [9, 24, 39, 49] and points[-1].turns == 81  # 9, then half of 30, 30 and 21
    assert points[0].traffic is None and points[1].traffic is not None
    assert all(point.wrong == point.quarantined_wrong == 0 for point in points)
    assert curve.right.shape == (10,) and curve.right.mean() == points[-1].accuracy > 0.9


def test_wrong_labels_are_among_those_asked_for_and_neighbours_find_most(settings: Settings):
    points, _ = play(settings, share=1.0, wrong=0.2)
    wrong = points[-1].wrong + points[-1].quarantined_wrong
    assert 5 <= wrong <= 30, "about a fifth of 81"
    assert points[-1].quarantined_wrong > wrong / 2 and points[-1].quarantined - points[-1].quarantined_wrong < 5


def test_a_tuned_router_is_played_too(settings: Settings):
    from dataclasses import replace

    base, quick = find("minilm", settings), replace(recipe.load("default").router, epochs=1)
    plan = Plan(method="tuned", shots=4, every=100, share=0.3, wrong=0.0)
    *_, table = simulate.replay(rows(8), rows(10)[-3:], [plan], quick, base, 1, everything=True)
    assert [point["labels"] for point in table["curves"][0]["points"]] == [12, 16]
    assert table["labels_share"] == pytest.approx(16 / 24) and 0 <= table["everything"]["accuracy"] <= 1
    assert len(curves.words(table)) == 2


def test_only_the_last_router_is_tuned_where_time_is_short(settings: Settings):
    from dataclasses import replace

    base, quick = find("minilm", settings), replace(recipe.load("default").router, epochs=1)
    plan = Plan(method="tuned_last", shots=3, every=20, share=0.3, wrong=0.0)
    steps = list(simulate.simulate(rows(12), rows(14)[-3:], plan, quick, base, 1))
    points = [place for place, step in enumerate(steps) if isinstance(step, Point)]
    tuned = [place for place, step in enumerate(steps) if isinstance(step, TrainStep)]
    assert len(points) == 3 and tuned and points[1] < min(tuned) < max(tuned) < points[2]


def test_replays_of_both_ways_of_asking_are_compared_with_an_interval(settings: Settings, tmp_path: Path):
    base = find("minilm", settings)
    plans = [Plan(method="frozen", shots=2, every=40, ask=ask, seed=seed) for seed in (0, 1) for ask in simulate.ASK]
    *_, table = simulate.replay(rows(20), rows(30)[-10:], plans, recipe.load("default").router, base, 1, everything=False)
    asking = table["asking"]
    assert asking["low"] <= asking["difference"] <= asking["high"] and asking["replays"] == 2
    curves.draw(table["curves"], 0.9, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes()[:4] == b"\x89PNG"


def test_a_difference_is_certain_when_one_side_is_always_right():
    found = curves.difference(np.ones(50, bool), np.zeros(50, bool))
    assert (found["difference"], found["low"], found["high"]) == (1.0, 1.0, 1.0)
    assert curves.difference(np.array([1, 0] * 50, bool), np.array([0, 1] * 50, bool))["low"] < 0


@pytest.mark.parametrize("change", [{"ask": "nobody"}, {"method": "magic"}, {"share": 0.0}, {"shots": 1}, {"wrong": 1.0}])
def test_a_plan_that_cannot_be_played_is_refused(change):
    with pytest.raises(DataError):
        simulate.check(rows(5), rows(5), Plan(**change))


def test_a_test_row_of_an_unknown_intent_is_named():
    with pytest.raises(DataError, match="'weather'"):
        simulate.check(rows(5), [Text("is it raining", "weather")], Plan())
