"""The fast engine against the reference: same vectors, same greedy text, with and without an adapter."""

import asyncio
import json
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest

from agent import weights
from agent.domain import find as find_domain
from agent.encoder import MAX_TOKENS, Encoder, clip
from agent.errors import BundleError, EngineError
from agent.generators.local import LocalGenerator, choose_engine
from agent.generators.onnx import OnnxDecoder
from agent.generators.reference import TransformersDecoder
from agent.generators.tokens import Tokens
from agent.models import BaseModel, find, verify
from agent.settings import Settings

PROMPTS = [
    [{"role": "system", "content": "Answer briefly.\n\nFacts:\n- Returns: You have 30 days from delivery to return an item."},
     {"role": "user", "content": "How long do I have to return a lamp?"}],
    [{"role": "system", "content": "Answer briefly.\n\nFacts:\n- Delivery: Standard delivery takes 3 to 5 working days."},
     {"role": "user", "content": "when does it come"}],
]


@pytest.fixture
def generator(settings: Settings) -> BaseModel:
    found = find("smollm2", settings)
    assert found, "the embedded generator is ready"
    return found


@pytest.fixture
def encoder(settings: Settings) -> BaseModel:
    found = find("minilm", settings)
    assert found, "the embedded encoder is ready"
    return found


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """A copy of a shipped adapter."""
    return Path(shutil.copytree(find_domain("customer_service") / "models" / "generator", tmp_path / "adapter"))


def greedy(decoder, ids: list[int], limit: int = 24) -> list[int]:
    return list(decoder.decode(ids, limit))


def test_both_engines_write_the_same_greedy_tokens(generator):
    tokens = Tokens(generator.path)
    fast, slow = OnnxDecoder(generator, None, 2), TransformersDecoder(generator, None, 2)
    for prompt in PROMPTS:  # the second prompt reuses the cache of the first one's beginning
        ids = tokens.encode(prompt)
        assert greedy(fast, ids) == greedy(slow, ids)


def test_a_merged_adapter_changes_the_text_and_equals_peft(generator, adapter):
    ids = Tokens(generator.path).encode(PROMPTS[0])
    tuned = greedy(OnnxDecoder(generator, adapter, 2), ids)
    assert tuned == greedy(TransformersDecoder(generator, adapter, 2), ids)
    assert tuned != greedy(OnnxDecoder(generator, None, 2), ids)


def test_a_prompt_asked_again_or_out_of_a_longer_one_gives_the_same_text(generator):
    fast, tokens = OnnxDecoder(generator, None, 2), Tokens(generator.path)
    first, second = (tokens.encode(prompt) for prompt in PROMPTS)
    alone = greedy(fast, first)
    greedy(fast, second)
    assert greedy(fast, first) == alone and greedy(fast, first[: len(first)]) == alone


def test_a_prompt_that_is_too_long_is_refused_in_words(generator):
    with pytest.raises(EngineError, match="shorten"):
        greedy(OnnxDecoder(generator, None, 2), [1] * 3000)


def test_the_chat_template_is_rendered_as_transformers_renders_it(generator):
    from transformers import AutoTokenizer

    reference = AutoTokenizer.from_pretrained(generator.path)
    for prompt in PROMPTS:
        text = reference.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)
        assert Tokens(generator.path).encode(prompt) == reference(text, add_special_tokens=False)["input_ids"]


def test_closing_a_stream_stops_the_engine(generator, settings):
    local = LocalGenerator(generator, None, settings)

    async def leave() -> str:
        stream = local.stream(PROMPTS[0], 64)
        first = await anext(stream)
        await stream.aclose()
        return first

    assert asyncio.run(leave())
    with local._lock:  # free again: the worker has ended at the next token
        pass
    assert local.write(PROMPTS[1], 4)


def test_a_stop_in_mid_answer_leaves_a_cache_that_the_next_answer_can_trust(generator, settings):
    local = LocalGenerator(generator, None, settings)
    whole = local.write(PROMPTS[0], 20)
    stop = threading.Event()
    pieces = local.pieces(PROMPTS[1], 20, stop)
    next(pieces)
    stop.set()
    list(pieces)
    assert local.write(PROMPTS[0], 20) == whole


def test_the_engine_can_be_chosen_and_falls_back_for_another_architecture(generator, settings, tmp_path):
    assert choose_engine(generator, settings) == "onnx"
    assert choose_engine(generator, Settings.load(home=settings.home, engine="transformers")) == "transformers"
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen2"}), encoding="utf-8")
    assert choose_engine(BaseModel("other", tmp_path, ""), settings) == "transformers"


def test_vectors_equal_those_of_transformers_whatever_the_batch(encoder):
    import torch
    from transformers import AutoModel, AutoTokenizer

    texts = ["where is my parcel", "hello", "I would like to send back the kettle because it leaks, please tell me how", "订单在哪里"]
    fast = Encoder(encoder, int8=False).embed(texts)
    tokenizer, model = AutoTokenizer.from_pretrained(encoder.path), AutoModel.from_pretrained(encoder.path).eval()
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.inference_mode():
        states = model(**batch).last_hidden_state
    mask = batch["attention_mask"][..., None]
    pooled = torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=1).numpy()
    assert np.abs(pooled - fast).max() < 1e-5
    assert np.abs(Encoder(encoder, int8=False).embed(texts[:1]) - fast[:1]).max() < 1e-5


def test_whole_numbers_give_nearly_the_same_vectors_and_the_same_alone_as_among_others(encoder):
    texts = ["where is my parcel", "hello", "I would like to send back the kettle because it leaks, please tell me how", "订单在哪里"]
    exact, whole = Encoder(encoder, int8=False).embed(texts), Encoder(encoder)
    assert (whole.embed(texts) * exact).sum(1).min() > 0.98
    assert np.array_equal(whole.embed(texts)[2:3], whole.embed(texts[2:3]))


def test_a_long_story_keeps_its_end():
    ids = list(range(1000))
    kept = clip(ids)
    assert len(kept) == MAX_TOKENS and kept[0] == 0 and kept[-1] == 999


def test_an_adapter_with_foreign_keys_or_values_that_are_not_finite_is_refused(generator, adapter):
    from safetensors.numpy import load_file, save_file

    state = load_file(adapter / "adapter_model.safetensors")
    name = next(key for key in state if "lora_B" in key)
    save_file(state | {name: np.full_like(state[name], np.nan)}, adapter / "adapter_model.safetensors")
    base = weights.read(generator.path / "model.safetensors")
    with pytest.raises(BundleError, match="not finite"):
        weights.merge(base, adapter)
    with pytest.raises(BundleError, match="does not have"):
        weights.merge({"other": np.zeros((2, 2), np.float32)}, adapter)


def test_a_cut_weights_file_is_refused(tmp_path, encoder):
    whole = (encoder.path / "model.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[:100_000])
    with pytest.raises(BundleError, match="whole safetensors"):
        weights.read(tmp_path / "cut.safetensors")


def test_the_embedded_models_are_what_was_published(generator, encoder):
    verify(generator)
    verify(encoder)
