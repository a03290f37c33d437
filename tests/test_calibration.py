"""A second head on plain vectors is added as far as held-out rows say, and the router reads both."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_training import rows

from agent import weights
from agent.encoder import Encoder
from agent.models import find
from agent.router import Router
from agent.settings import Settings
from tuning import calibration, recipe, train_router
from tuning.dataset import OOS

LABELS = ["a", "b", "c"]
TRUTH = ["a", "b", "c", OOS] * 10


def logits_of(strength: float, seed: int) -> np.ndarray:
    """[40, 4]: the truth is before the others by `strength`, beside noise."""
    drawn = np.random.default_rng(seed).normal(size=(40, 4))
    drawn[np.arange(40), [[*LABELS, OOS].index(name) for name in TRUTH]] += strength
    return drawn


def test_a_head_that_knows_nothing_is_not_added_and_one_that_knows_more_is():
    assert calibration.fit_share(logits_of(6, 1), logits_of(0, 2), LABELS, TRUTH) <= 0.5
    assert calibration.fit_share(logits_of(0.5, 1), logits_of(6, 2), LABELS, TRUTH) >= 1.0
    assert 0.2 <= calibration.fit_share(logits_of(2, 1), logits_of(2, 2), LABELS, TRUTH) <= 3.0


@pytest.mark.parametrize("intents", [["a", "b", "c", OOS], ["a", "b", "c"], ["a", "b"]], ids=str)
def test_a_plain_head_knows_its_own_rows_and_never_chooses_what_it_never_saw(intents: list[str]):
    labels = sorted(set(intents) - {OOS})
    vectors = np.eye(4)[[[*LABELS, OOS].index(name) for name in intents for _ in range(5)]]
    weight, bias = calibration.fit_plain(vectors, [name for name in intents for _ in range(5)], labels, 30.0)
    assert weight.shape == (len(labels) + 1, 4)
    chosen = (vectors @ weight.T + bias).argmax(1)
    assert [[*labels, OOS][i] for i in chosen] == [name for name in intents for _ in range(5)]
    if OOS not in intents:
        assert (np.random.default_rng(1).normal(size=(50, 4)) @ weight.T + bias).argmax(1).max() < len(labels)


def test_a_router_with_a_plain_head_reads_both_encoders(settings: Settings, tmp_path: Path):
    base = find("minilm", settings)
    how = replace(recipe.load("default").router, epochs=2, batch=8, held_out=0.2, plain_head=30.0)
    list(train_router.train(rows(), how, base, 1, tmp_path, 2))
    router, head = Router(tmp_path, base), weights.read(tmp_path / "head.safetensors")
    texts = ["I want my money back", "where is my parcel", "sing me a song"]
    assert head["weight"].shape == (3, 768)
    both = np.hstack([Encoder(base, tmp_path / "adapter").embed(texts), Encoder(base).embed(texts)])
    logits = both @ head["weight"].T + head["bias"]
    assert [route.ranking[0][0] for route in router.route(texts)] == [router.labels[i] for i in logits[:, :2].argmax(1)]
    shared = Router(tmp_path, base, plain=router._plain)
    assert np.allclose(shared.score(texts)[0], router.score(texts)[0])


def test_without_a_plain_head_the_tuned_encoder_is_read_alone(settings: Settings, tmp_path: Path):
    base = find("minilm", settings)
    how = replace(recipe.load("default").router, epochs=1, batch=8, held_out=0.2, plain_head=0.0)
    list(train_router.train(rows(), how, base, 1, tmp_path, 2))
    assert Router(tmp_path, base)._plain is None and weights.read(tmp_path / "head.safetensors")["weight"].shape == (3, 384)
