"""What a router's rows decide about its tuning: epochs, a second training, whether names are rows."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_training import rows

from agent import weights
from agent.models import find
from agent.router import Router
from agent.settings import Settings
from tuning import calibration, choose, recipe, train_router
from tuning.dataset import OOS, Text

SHARP = recipe.load("sharp").router


def embed(texts: list[str]) -> np.ndarray:
    """A direction for each first letter."""
    return np.eye(26)[[ord(text[0].lower()) - 97 if text[0].isalpha() else 0 for text in texts]]


@pytest.mark.parametrize("count, epochs, refit", [(385, 8, "on"), (2_999, 8, "on"), (3_000, 8, "off"), (10_003, 3, "off"),
                                                  (200_000, 3, "off")])
def test_few_rows_are_seen_often_and_all_of_them_many_seldom(count: int, epochs: int, refit: str):
    many = [Text(f"{'ab'[n % 2]} {n}", "ab"[n % 2]) for n in range(count)]
    chosen = choose.choose(many, SHARP, embed, 1)
    assert (chosen.epochs, chosen.refit, chosen.head_start) == (epochs, refit, "prototypes")
    assert chosen.learning_rate == SHARP.learning_rate and chosen.method == SHARP.method


def test_a_name_is_said_in_words_where_it_has_any():
    assert choose.named(["card_arrival", "Refund_not_showing_up", "lostCard", "c3", "17", "ok"]) == [
        Text("card arrival", "card_arrival"), Text("refund not showing up", "Refund_not_showing_up"), Text("lost card", "lostCard")]


def test_names_are_rows_where_left_out_rows_are_found_more_often_with_them():
    told = [Text(f"{letter}{n}", name) for name, letter in (("alpha", "a"), ("beta", "b")) for n in range(8)]
    misled = [Text(f"{letter}{n}", name) for name, letter in (("bravo", "a"), ("alpha", "b")) for n in range(2)]
    assert choose.names_help(told, embed, 1)
    assert not choose.names_help(misled, embed, 1)
    assert not choose.names_help([Text("a", "1"), Text("b", "2")], embed, 1)


def test_every_fold_has_rows_of_every_intent_that_has_as_many():
    intents = ["x"] * 8 + ["y"] * 5
    dealt = choose.folds(intents, 3)
    assert sorted(dealt[:8]) == [0, 0, 1, 1, 2, 2, 3, 3] and set(dealt[8:]) == {0, 1, 2, 3}


def test_training_again_on_all_rows_keeps_what_was_measured_without_some(settings: Settings, tmp_path: Path):
    base, how = find("minilm", settings), replace(SHARP, choose="off", epochs=2, batch=8, held_out=0.3)
    steps = list(train_router.train(rows(), how, base, 1, tmp_path, 2))
    assert sum(step.held_out is not None for step in steps) == 2  # the second training has no rows to be measured on
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter", "head.safetensors", "router.json"]
    router = Router(tmp_path, base, 2)
    assert [route.ranking[0][0] for route in router.route(["could I get my money back", "is my parcel on its way"])] == [
        "refund", "delivery"]
    words = "embeddings.word_embeddings.weight"
    assert words not in weights.read(tmp_path / "adapter" / weights.REPLACED)


def test_the_likely_intents_hold_the_right_one_as_often_as_promised():
    drawn = np.random.default_rng(3)
    kept, new = drawn.beta(4, 1, 400), drawn.beta(4, 1, 4000)
    assert 0.93 <= float((new >= calibration.least_likely(kept)).mean()) <= 0.975
    assert calibration.least_likely(kept[:18]) == 0.0  # 18 rows cannot promise 95 of 100: every intent is likely
    assert calibration.least_likely(kept[:19]) == kept[:19].min()


def test_strangers_are_those_without_energy_and_far_from_every_intent():
    drawn = np.random.default_rng(1)
    truth = ["a", "b"] * 50
    logits = drawn.normal(size=(100, 3))
    logits[np.arange(100), [0, 1] * 50] += 8
    near = drawn.normal(0.8, 0.03, 100)
    table = calibration.calibrate(["a", "b"], logits, truth, 0.9, near)
    weight = np.array(table["oos_weights"])
    from agent.router import oos_features

    def strange(logits: np.ndarray, near: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-(oos_features(logits, table["temperature"], near) @ weight[:-1] + weight[-1])))

    known = strange(logits, near)
    assert np.isclose(table["oos_threshold"], 0.5, atol=0.02) and np.isclose((known <= table["oos_threshold"]).mean(), 0.9)
    assert (strange(logits, near - 0.5) > known).all()  # far, and yet as sure
    assert (strange(logits - 8, near) > known).all()  # near, and yet nothing speaks for any intent
    taught = calibration.calibrate(["a", "b"], np.vstack([logits, logits[:40] - 8]), [*truth, *[OOS] * 40], 0.9,
                                   np.r_[near, near[:40] - 0.5])
    assert len(taught["oos_weights"]) == 6 and taught["oos_threshold"] < 0.5
