"""A router on rows and messages as they come: what it says to them, and that it is never sure of what says nothing."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_training import rows

from agent.errors import DataError
from agent.models import find
from agent.router import Router
from agent.settings import Settings
from tuning import recipe, train_router
from tuning.dataset import OOS, Text

QUICK = replace(recipe.load("sharp").router, choose="off", epochs=3, batch=8, held_out=0.3)
TWO = [Text("I cannot log in", "login"), Text("the password is refused", "login")]
TORN = [Text("my thing is broken", "refund"), Text("my thing is broken", "delivery")]


@pytest.fixture(scope="module")
def router(tmp_path_factory: pytest.TempPathFactory) -> Router:
    folder = tmp_path_factory.mktemp("router")
    base = find("minilm", Settings.load())
    inside = [row for row in rows() if row.intent != OOS]
    list(train_router.train([*inside, *inside[:4], *TWO, *TORN], QUICK, base, 1, folder, 2))
    return Router(folder, base, 2)


@pytest.mark.parametrize("text", ["", "   \n", "🙂🙂🙂", "x" * 10_000, "☂☃ ♞"], ids=["empty", "blank", "emoji", "one letter", "signs"])
def test_a_message_without_a_word_is_out_of_scope(router: Router, text: str):
    route, = router.route([text])
    assert route.intent is None and route.oos == 1.0


@pytest.mark.parametrize("text", ["Wo bleibt das Geld?", "我的卡在哪里", "نريد بعض المساعدة", "lorem ipsum " * 1000],
                         ids=["German", "Chinese", "Arabic", "12,000 letters"])
def test_what_it_cannot_know_is_not_sure(router: Router, text: str):
    route, = router.route([text])
    assert route.intent is None or route.confidence < 0.8
    assert abs(sum(share for _, share in route.ranking) - 1) < 1e-6 and np.isfinite(route.oos)


def test_an_intent_of_two_rows_is_learned(router: Router):
    assert router.route(["I cannot log in any more"])[0].ranking[0][0] == "login"


def test_a_text_with_two_intents_is_sure_of_neither(router: Router):
    route, = router.route([TORN[0].text])
    assert {name for name, _ in route.ranking[:2]} == {"refund", "delivery"} and route.ranking[0][1] < 0.8


def test_rows_said_twice_are_not_held_out_beside_themselves(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    seen = {}

    def fit(job, fit, held, out, state):
        seen.setdefault("fit", fit)
        seen.setdefault("held", held)
        raise InterruptedError
        yield

    monkeypatch.setattr(train_router, "_fit", fit)
    twice = [row for row in rows() for _ in range(2)]
    with pytest.raises(InterruptedError):
        list(train_router.train(twice, QUICK, find("minilm", settings), 1, tmp_path, 2))
    assert not set(seen["fit"]) & set(seen["held"]) and len(set(seen["held"])) == len(seen["held"]) > 1
    assert len(seen["fit"]) == 2 * len(set(seen["fit"])) and set(seen["fit"]) | set(seen["held"]) == set(rows())


@pytest.mark.parametrize("given, words", [([Text("a word", "x"), Text("b word", "x")], "two intents"),
                                          ([Text("a word", "x"), Text("b word", "y")], "none can be held out")])
def test_rows_that_no_router_is_made_of_are_refused_with_what_to_do(settings: Settings, tmp_path: Path, given: list[Text], words: str):
    with pytest.raises(DataError, match=f"{words}.*add rows"):
        list(train_router.train(given, QUICK, find("minilm", settings), 1, tmp_path, 2))
