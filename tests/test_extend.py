"""A new intent on an encoder that stays as it was tuned."""

from dataclasses import replace
from pathlib import Path

import pytest
from test_training import rows

from agent.errors import DataError
from agent.models import find
from agent.router import Router
from agent.settings import Settings
from tuning import extend, recipe, train_router
from tuning.dataset import Text

NEW = [Text(text, "login") for text in ("I cannot log in", "the password is refused", "my account is locked",
                                        "it says wrong password", "sign in does not work")]


def test_a_new_intent_is_known_the_old_ones_stay_and_the_encoder_is_the_same(settings: Settings, tmp_path: Path):
    base, how = find("minilm", settings), replace(recipe.load("default").router, epochs=2, batch=8, held_out=0.2)
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    list(train_router.train(rows(), how, base, 1, first, 2))
    extend.extend(first, [*rows(), *NEW], base, second, 0.2, 0.97, 1, 2)
    router = Router(second, base, 2)
    assert router.labels == ["delivery", "login", "refund"]
    asked = ["I want my money back", "where is my parcel", "cannot sign in with my password"]
    assert [route.ranking[0][0] for route in router.route(asked)] == ["refund", "delivery", "login"]
    kept = "adapter/adapter_model.safetensors"
    assert (first / kept).read_bytes() == (second / kept).read_bytes()
    with pytest.raises(DataError, match="two intents"):
        extend.extend(first, NEW, base, tmp_path / "third", 0.2, 0.97, 1, 2)
