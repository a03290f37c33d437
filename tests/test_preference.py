"""Preferences: rows as pairs and thumbs, and three methods that move the model from its champion towards what is liked."""

import math
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from agent import prompt
from agent.domain import Domain
from agent.errors import DataError
from agent.generators.local import make_decoder
from agent.generators.tokens import Tokens
from agent.models import BaseModel, find
from agent.paths import DOMAINS
from agent.settings import Settings
from tuning import preference
from tuning.recipe import PreferenceRecipe
from tuning.rows import Row

FACTS = ("Opening, Week: We open at nine.",)
ASKED, LIKED, DISLIKED = "When do you open?", "We open at nine.", "No idea, sorry."
PAIR = Row("generator", "correction", ASKED, answer=LIKED, rejected=DISLIKED, facts=FACTS)
THUMBS = [Row("generator", "up", ASKED, answer=LIKED, facts=FACTS),
          Row("generator", "down", ASKED, answer=DISLIKED, facts=FACTS)]
RECIPE = PreferenceRecipe("dpo", learning_rate=1e-3, beta=0.1, epochs=2, batch=1, sft_weight=0.2)


@pytest.fixture(scope="module")
def library() -> Domain:
    return Domain.load(DOMAINS / "_template")


@pytest.fixture(scope="module")
def base(real_models: Path) -> BaseModel:
    return find("smollm2", Settings.load(home=real_models.parent))


@pytest.fixture(scope="module")
def champion(base: BaseModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter on the three highest layers that is far from doing nothing."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    from tuning.steps import save_adapter

    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_pretrained(base.path, dtype=torch.float32)
    model = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj", "down_proj"],
                                             layers_to_transform=[27, 28, 29], task_type="CAUSAL_LM"))
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.02)
    save_adapter(model, folder := tmp_path_factory.mktemp("champion"))
    return folder


def loss_of(words: str, base: BaseModel, adapters: list[Path], domain: Domain) -> list[float]:
    """Mean loss of the answer's tokens, its end and the line break of the template, by each adapter."""
    import torch
    from transformers import AutoTokenizer

    from agent.generators.reference import TransformersDecoder

    tokenizer = AutoTokenizer.from_pretrained(base.path)
    messages = prompt.render(domain, FACTS, (), ASKED)
    ask = tokenizer(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))["input_ids"]
    answer = tokenizer(f"{words}{tokenizer.eos_token}\n")["input_ids"]
    found = []
    for adapter in adapters:
        with torch.inference_mode():
            logits = TransformersDecoder(base, adapter, 1).model(torch.tensor([ask + answer])).logits[0, len(ask) - 1:-1]
        found.append(float(torch.nn.functional.cross_entropy(logits, torch.tensor(answer))))
    return found


@pytest.fixture(scope="module")
def before(base: BaseModel, champion: Path, library: Domain) -> dict[str, float]:
    return {words: loss_of(words, base, [champion], library)[0] for words in (LIKED, DISLIKED)}


@pytest.mark.parametrize("method", ["dpo", "kto", "apo_zero_unpaired"])
def test_a_few_steps_move_what_is_liked_above_what_is_not(method: str, base: BaseModel, champion: Path, library: Domain,
                                                          before: dict[str, float], tmp_path: Path):
    recipe = replace(RECIPE, method=method, batch=1 if method == "dpo" else 2)
    rows = [PAIR] if method == "dpo" else THUMBS
    steps = list(preference.train(rows, recipe, base, champion, library, 1, tmp_path / "out", 1))
    assert [(step.epoch, step.done, step.total) for step in steps] == [(0, 1, 2), (1, 2, 2)]

    # The first step's log ratios are all 0, so the reference is the champion itself and not the bare base.
    even = math.log(2) + 0.2 * before[LIKED] if method == "dpo" else sum(preference.balance(1, 1)) / 2 * 0.5
    assert steps[0].loss == pytest.approx(even, abs=2e-3)

    after = {words: loss_of(words, base, [tmp_path / "out"], library)[0] for words in (LIKED, DISLIKED)}
    assert after[DISLIKED] - after[LIKED] > before[DISLIKED] - before[LIKED] + 0.01
    ids = Tokens(base.path).encode(prompt.render(library, FACTS, (), ASKED))
    told = {engine: list(make_decoder(engine, base, tmp_path / "out", 1).decode(ids, 3)) for engine in ("onnx", "transformers")}
    assert [each[:3] for each in told.values()] == [told["onnx"][:3]] * 2


def test_a_trainer_that_nobody_listens_to_stops_and_saves_nothing(base: BaseModel, champion: Path, library: Domain,
                                                                  tmp_path: Path):
    steps = preference.train([PAIR], replace(RECIPE, epochs=500), base, champion, library, 1, tmp_path / "out", 1)
    assert next(steps).total == 500
    steps.close()
    assert not (tmp_path / "out").exists()
    assert "train" not in {thread.name for thread in threading.enumerate()}


def test_a_pair_is_a_reply_with_a_better_one_under_the_prompt_that_was_served(library: Domain):
    rows = [replace(PAIR, history=("Hello", "Good day"), weight=2), replace(PAIR, rejected=f" {LIKED} "),
            replace(PAIR, part="router"), replace(PAIR, rejected=None), *THUMBS]
    made = preference.pairs(rows, library)
    assert len(made) == 2 and made[0] == made[1]
    assert made[0] == {"prompt": prompt.render(library, FACTS, ("Hello", "Good day"), ASKED),
                       "chosen": [{"role": "assistant", "content": LIKED}],
                       "rejected": [{"role": "assistant", "content": DISLIKED}]}


def test_liked_and_disliked_replies_lie_evenly_mixed(library: Domain):
    rows = [replace(THUMBS[0], question=f"Question {i}") for i in range(9)] + [THUMBS[1]] * 3
    made = preference.thumbs(rows, library, 1)
    assert [sum(row["label"] for row in made[start:start + 4]) for start in (0, 4, 8)] == [3, 3, 3]
    assert {row["prompt"][-1]["content"] for row in made if row["label"]} == {f"Question {i}" for i in range(9)}
    assert made == preference.thumbs(rows, library, 1) != preference.thumbs(rows, library, 2)


def test_a_correction_gives_a_liked_and_a_disliked_reply(library: Domain):
    made = preference.thumbs([PAIR], library, 1)
    assert sorted((row["label"], row["completion"][0]["content"]) for row in made) == [(False, DISLIKED), (True, LIKED)]


def test_seed_rows_and_other_parts_are_no_preference(library: Domain):
    rows = [*THUMBS, replace(THUMBS[0], signal="seed"), replace(THUMBS[1], part="router")]
    assert len(preference.thumbs(rows, library, 1)) == 2


@pytest.mark.parametrize("liked", [1, 5, 40, 1000])
@pytest.mark.parametrize("disliked", [1, 7, 40, 300])
def test_weights_stay_in_the_range_of_the_method(liked: int, disliked: int):
    weights = preference.balance(liked, disliked)
    assert 1 <= weights[0] * liked / (weights[1] * disliked) <= 4 / 3 and max(weights) == 1


@pytest.mark.parametrize("batch, least, most, size",
                         [(8, 1, 2, 2), (8, 2, 4, 4), (6, 2, 4, 3), (7, 2, 4, 7), (1, 1, 2, 1), (2, 2, 4, 2)])
def test_a_batch_is_cut_into_equal_parts(batch: int, least: int, most: int, size: int):
    assert preference._at_once(batch, least, most) == size


@pytest.mark.parametrize("method, rows, what", [
    ("dpo", THUMBS, "corrections"), ("kto", [], "0 disliked and no liked"), ("kto", THUMBS[:1] * 3, "3 liked and no disliked"),
    ("apo_zero_unpaired", THUMBS[1:], "1 disliked and no liked"), ("kto", THUMBS, "batch")])
def test_too_little_to_learn_from_is_refused_with_what_is_missing(method: str, rows: list[Row], what: str, base: BaseModel,
                                                                  champion: Path, library: Domain, tmp_path: Path):
    recipe = replace(RECIPE, method=method)
    with pytest.raises(DataError, match=what):
        list(preference.train(rows, recipe, base, champion, library, 1, tmp_path / "out", 1))
    assert not (tmp_path / "out").exists()


def test_a_champion_without_an_adapter_is_refused(base: BaseModel, library: Domain, tmp_path: Path):
    with pytest.raises(DataError, match="no LoRA adapter"):
        list(preference.train([PAIR], RECIPE, base, tmp_path, library, 1, tmp_path / "out", 1))


def test_nothing_is_told_to_the_makers_of_the_library():
    import trl

    for trainer in (trl.DPOTrainer, trl.KTOTrainer):
        assert preference._silent(trainer)._send_telemetry is not trainer._send_telemetry
