"""What is tuned moves, what is frozen stays, and what is saved loads in the agent's own engines with the same outputs.

Small random models of the same kinds as the real ones; one run each on those.
"""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent import weights
from agent.encoder import Encoder
from agent.errors import BundleError, DataError, StoreError
from agent.generators.local import choose_engine
from agent.generators.onnx import OnnxDecoder
from agent.generators.reference import TransformersDecoder
from agent.models import BaseModel, find
from agent.router import Router
from agent.settings import Settings
from tuning import losses, methods, recipe, train_generator, train_router, trainer
from tuning.dataset import OOS, Text
from tuning.steps import Note
from tuning.train_generator import Sequenced

torch = pytest.importorskip("torch")
LAYERS = 3


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    """A Llama of three layers."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=200, hidden_size=64, intermediate_size=128, num_hidden_layers=LAYERS, num_attention_heads=4,
                         num_key_value_heads=2, tie_word_embeddings=True, max_position_embeddings=256, initializer_range=0.2)
    folder = tmp_path_factory.mktemp("llama")
    LlamaForCausalLM(config).save_pretrained(folder)
    return BaseModel("small", folder, "small")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory, real_models: Path) -> BaseModel:
    """A BERT of three layers with the real tokenizer."""
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(vocab_size=30522, hidden_size=32, intermediate_size=64, num_hidden_layers=LAYERS, num_attention_heads=2,
                        initializer_range=0.1)
    folder = tmp_path_factory.mktemp("bert")
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    shutil.copy(real_models / "minilm" / "tokenizer.json", folder)
    return BaseModel("small", folder, "small")


def told(part: str, method: str, **changes: Any) -> Any:
    plain = {"method": method, "rank": 4, "alpha": 8, "frozen_layers": 0 if method == "prefix" else 1, "learning_rate": 0.01,
             "epochs": 2, "batch": 2, "warmup": 0.0, "patience": 9}
    alone = {"plain_head": 0.0} if part == "router" else {}  # what is tuned is looked at by itself
    return dataclasses.replace(getattr(recipe.load("default"), part), **(plain | alone | changes))


def sequences() -> list[Sequenced]:
    """Two rows beside each other after a shared prefix; what follows is always the same few ids."""
    made = []
    for i in range(4):
        ids = [10 + i, 20, 30, 40 + i, 50, 60, 41 + i, 51, 61]
        made.append(Sequenced(ids, [0, 1, 2, 3, 4, 5, 3, 4, 5], [0, 0, 0, 1, 1, 1, 2, 2, 2],
                              [(3, 7), (4, 8), (5, 9), (6, 7), (7, 8), (8, 9)]))
    return made


def job_of(base: BaseModel, settings: Any, state: Path | None = None) -> trainer.Job:
    """A run on the small decoder, ten steps an epoch, as train_generator would make it."""
    from transformers import AutoModelForCausalLM

    torch.manual_seed(1)
    items = sequences()
    epochs = [[items[i:i + 2] for i in (0, 2, 0, 2, 0, 2, 0, 2, 0, 2)]] * settings.epochs
    model = AutoModelForCausalLM.from_pretrained(base.path, dtype=torch.float32)
    tuned = methods.apply(model, settings, "generator", trainer.steps_of(epochs, settings))
    groups = [{"params": [value for value in tuned.parameters() if value.requires_grad], "lr": settings.learning_rate}]
    held = [train_generator.collate(items, 0)]
    return trainer.Job("generator", train_generator._net(tuned, settings), tuned, groups, epochs,
                       lambda batch: train_generator.collate(batch, 0), lambda: train_generator._held_out(tuned, held),
                       settings, 2, 1, state)


def plain_logits(model: Any, ids: list[int]) -> np.ndarray:
    """Of the last position, by torch; a tuned prefix comes first."""
    with torch.inference_mode():
        prefix = methods.prefix_of(model.eval(), 1)
        out = methods.base_of(model)(input_ids=torch.tensor([ids]), past_key_values=prefix, use_cache=True)
    return out.logits[0, -1].numpy()


def engine_logits(engine: str, base: BaseModel, part: Path | None, ids: list[int]) -> np.ndarray:
    """Of the last position, by one of the agent's engines."""
    if engine == "onnx":
        fast = OnnxDecoder(base, part, 1)
        next(fast.decode(ids, 1))
        return fast._logits.numpy()[0, 0].copy()
    slow = TransformersDecoder(base, part, 1)
    with torch.inference_mode():
        cache = slow._prompt(1) if slow._prompt else None
        return slow.model(input_ids=torch.tensor([ids]), past_key_values=cache, use_cache=True).logits[0, -1].numpy()


@pytest.mark.parametrize("method", ["lora", "rslora", "adalora", "ia3", "prefix", "full"])
def test_a_generator_learns_by_every_method_and_what_it_saves_loads(decoder: BaseModel, tmp_path: Path, method: str):
    rates = {"ia3": 0.1, "prefix": 0.1, "adalora": 0.05}
    job = job_of(decoder, told("generator", method, learning_rate=rates.get(method, 0.01)))
    before = {name: value.detach().clone() for name, value in job.tuned.named_parameters()}
    start = job.held_out()
    steps = list(trainer.run(job))
    assert min(step.held_out for step in steps if step.held_out) < 0.9 * start
    moved = {name for name, value in job.tuned.named_parameters() if not torch.equal(before[name], value)}
    named = {name for name, value in job.tuned.named_parameters() if value.requires_grad}
    assert moved and moved <= named and not any("layers.0." in name for name in moved)
    if method == "full":
        assert len(moved) == 2 * 9 + 1 and "model.embed_tokens.weight" not in moved  # nine tensors a layer, and the last norm

    ids = [10, 20, 30, 40]
    trained = plain_logits(job.tuned, ids)
    change = np.abs(trained - engine_logits("onnx", decoder, None, ids)).max()
    methods.save(job.tuned, job.recipe, decoder.path / "model.safetensors", tmp_path / "part")
    assert change > 0.5
    assert np.abs(engine_logits("transformers", decoder, tmp_path / "part", ids) - trained).max() < 0.01 * change
    if method == "prefix":
        with pytest.raises(BundleError, match="can be merged nowhere; set engine = 'transformers'"):
            OnnxDecoder(decoder, tmp_path / "part", 1)
    else:
        assert np.abs(engine_logits("onnx", decoder, tmp_path / "part", ids) - trained).max() < 0.01 * change


def test_a_tuned_prefix_chooses_the_engine_that_can_load_it(decoder: BaseModel, tmp_path: Path, settings: Settings):
    job = job_of(decoder, told("generator", "prefix"))
    methods.save(job.tuned, job.recipe, decoder.path / "model.safetensors", tmp_path / "part")
    assert choose_engine(decoder, settings) == "onnx"
    assert choose_engine(decoder, settings, tmp_path / "part") == "transformers"
    slow = TransformersDecoder(decoder, tmp_path / "part", 1)
    assert list(slow.decode([10, 20], 3)) == list(slow.decode([10, 20], 3))  # each stream has a cache of its own


def test_adalora_spends_its_ranks_unevenly_and_is_saved_as_one_plain_rank(decoder: BaseModel, tmp_path: Path):
    job = job_of(decoder, told("generator", "adalora", learning_rate=0.05))
    list(trainer.run(job))
    ranks = [int((layer.lora_E["default"] != 0).sum()) for _, layer in job.tuned.named_modules() if hasattr(layer, "lora_E")]
    assert sum(ranks) == 4 * len(ranks) and len(set(ranks)) > 1  # began with six each
    methods.save(job.tuned, job.recipe, decoder.path / "model.safetensors", tmp_path / "part")
    saved = weights.read(tmp_path / "part" / "adapter_model.safetensors")
    config = json.loads((tmp_path / "part" / "adapter_config.json").read_text(encoding="utf-8"))
    assert config["peft_type"] == "LORA" and config["r"] == config["lora_alpha"] == max(ranks)
    assert {array.shape[0] for name, array in saved.items() if "lora_A" in name} == {max(ranks)}


def test_adalora_goes_on_with_the_ranks_that_it_had(decoder: BaseModel, tmp_path: Path):
    settings = told("generator", "adalora", learning_rate=0.05, save_every=6)
    whole = list(trainer.run(job_of(decoder, settings)))
    first = trainer.run(job_of(decoder, settings, tmp_path))
    while next(first).done < 14:
        pass
    first.close()
    said, *rest = trainer.run(job_of(decoder, settings, tmp_path))
    assert said.done == 12 and rest[0].done == 13
    assert [step.loss for step in rest] == pytest.approx([step.loss for step in whole[-len(rest):]], abs=1e-5)


def test_a_tuned_prefix_and_ordinary_rows_have_the_loss_of_rows_alone(decoder: BaseModel):
    job = job_of(decoder, told("generator", "prefix"))
    list(trainer.run(job))
    item = sequences()[0]
    alone = []
    for ids in (item.ids[:6], item.ids[:3] + item.ids[6:]):
        with torch.inference_mode():
            out = methods.base_of(job.tuned)(input_ids=torch.tensor([ids]), past_key_values=methods.prefix_of(job.tuned, 1),
                                             use_cache=True).logits[0, 3:]
        alone.append(float(torch.nn.functional.cross_entropy(out, torch.tensor([7, 8, 9]))))
    with torch.inference_mode():
        together = float(train_generator.loss_of(job.tuned.eval(), train_generator.collate([item], 0)))
    assert together == pytest.approx(sum(alone) / 2, abs=1e-5)


def test_dropout_reaches_the_places_that_each_method_has(decoder: BaseModel, encoder: BaseModel):
    from transformers import AutoModel, AutoModelForCausalLM

    def shares(part: str, base: BaseModel, method: str) -> set[float]:
        kind = AutoModelForCausalLM if part == "generator" else AutoModel
        tuned = methods.apply(kind.from_pretrained(base.path), told(part, method, dropout=0.25), part, 10)
        found = {module.p for module in tuned.modules() if isinstance(module, torch.nn.Dropout)}
        return found | {module.attention_dropout for module in tuned.modules() if hasattr(module, "attention_dropout")}

    assert shares("generator", decoder, "lora") == {0.25, 0.0}  # on the adapter alone
    assert shares("generator", decoder, "full") == {0.25}
    assert shares("router", encoder, "lora") == shares("router", encoder, "head") == {0.25}


@pytest.mark.parametrize(("part", "method", "frozen", "said"), [
    ("generator", "lora", 3, "frozen_layers = 3 leaves nothing to tune"),
    ("router", "full", 3, "frozen_layers = 3 leaves nothing to tune"),
    ("generator", "prefix", 1, "a prefix reaches every layer"),
    ("router", "prefix", 0, "take lora, ia3, full or head"),
])
def test_what_cannot_be_tuned_is_refused(decoder: BaseModel, encoder: BaseModel, part: str, method: str, frozen: int,
                                        said: str):
    from transformers import AutoModel, AutoModelForCausalLM

    kind, base = (AutoModelForCausalLM, decoder) if part == "generator" else (AutoModel, encoder)
    with pytest.raises(DataError, match=said):
        methods.apply(kind.from_pretrained(base.path), told(part, method, frozen_layers=frozen), part, 10)


def test_every_method_says_whether_vllm_can_serve_it():
    assert {method for method in recipe.METHODS if not methods.servable(method)[0]} == {"ia3", "prefix", "full"}
    assert all(sentence.endswith(".") for _, sentence in map(methods.servable, recipe.METHODS))


def test_a_generator_says_at_its_start_what_vllm_cannot_serve(decoder: BaseModel, tmp_path: Path):
    steps = train_generator.train([], told("generator", "full"), decoder, 1, tmp_path, 1)
    said = next(steps)
    steps.close()
    assert isinstance(said, Note) and "vLLM cannot serve" in said.text


WISHES = {"refund": ["I want my money back", "please refund me", "give me back what I paid", "refund this order now"],
          "delivery": ["when does it arrive", "where is my parcel", "has it been shipped yet", "track my delivery"]}
FIT = [Text(text, intent) for intent, texts in WISHES.items() for text in texts] + [Text("tell me a joke", OOS)]
HELD = [Text("refund my money", "refund"), Text("i want a refund please", "refund"), Text("where is my delivery", "delivery"),
        Text("when is my parcel here", "delivery"), Text("what is the weather", OOS)]


def loaded_loss(folder: Path, base: BaseModel) -> float:
    """Of the held-out rows, by the engine that serves, in the precision of the training."""
    router, adapter = Router(folder, base), folder / "adapter"
    vectors = Encoder(base, adapter if adapter.exists() else None, int8=False).embed([row.text for row in HELD])
    logits = vectors @ router._weight.T + router._bias
    number = [[*router.labels, OOS].index(row.intent) for row in HELD]
    return float(losses.mean_loss(torch.tensor(logits), torch.tensor(number)))


@pytest.mark.parametrize("method", ["lora", "rslora", "adalora", "ia3", "full", "head"])
def test_a_router_learns_by_every_method_and_serves_what_it_learned(encoder: BaseModel, tmp_path: Path, method: str):
    settings = told("router", method, epochs=4, batch=3, learning_rate=0.02, head_learning_rate=0.01, dropout=0.0)
    steps = list(train_router.train(FIT, settings, encoder, 1, tmp_path, 1, HELD))
    trained = [step.loss for step in steps if step.held_out is None]
    assert np.mean(trained[-3:]) < np.mean(trained[:3])
    router = Router(tmp_path, encoder)
    assert loaded_loss(tmp_path, encoder) == pytest.approx(min(step.held_out for step in steps if step.held_out), abs=2e-3)
    plain = Encoder(encoder).embed([row.text for row in HELD])
    change = np.abs(router.encoder.embed([row.text for row in HELD]) - plain).max()
    assert (change == 0) == (method == "head") and (change > 0.02 or method == "head")
    if method == "full":
        saved = weights.read(tmp_path / "adapter" / weights.REPLACED)
        assert saved and not [name for name in saved if "layer.0." in name or name.startswith("embeddings")]


@pytest.mark.parametrize("changes", [{"loss": "focal"}, {"class_weights": "balanced"}, {"label_smoothing": 0.2},
                                     {"contrastive": 0.0}], ids=str)
def test_every_loss_of_a_router_falls_and_none_is_another(encoder: BaseModel, tmp_path: Path, changes: dict[str, Any]):
    def run(name: str, **more: Any) -> list[float]:
        (tmp_path / name).mkdir()
        settings = told("router", "lora", epochs=3, batch=9, learning_rate=0.02, dropout=0.0, **more)
        steps = train_router.train(FIT, settings, encoder, 1, tmp_path / name, 1, HELD)
        return [step.loss for step in steps if step.held_out is None]

    usual, found = run("usual"), run("found", **changes)
    assert found[-1] < found[0] and abs(found[0] - usual[0]) > 1e-3


def test_rows_are_augmented_before_they_are_trained_on_and_held_rows_never(encoder: BaseModel, tmp_path: Path):
    seen: list[Text] = []

    def augment(rows: list[Text]) -> list[Text]:
        seen.extend(rows)
        return [*rows, *rows]

    settings = told("router", "head", epochs=1, batch=3)
    steps = list(train_router.train(FIT, settings, encoder, 1, tmp_path, 1, HELD, augment=augment))
    assert seen == FIT and steps[-1].total == 2 * len(FIT) / 3


def test_a_held_out_intent_that_nobody_trains_on_is_named(encoder: BaseModel, tmp_path: Path):
    with pytest.raises(DataError, match="'strange'"):
        list(train_router.train(FIT, told("router", "head"), encoder, 1, tmp_path, 1, [Text("a", "strange")]))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full")
def test_a_full_disk_at_the_end_of_training_is_a_sentence(encoder: BaseModel, tmp_path: Path):
    (tmp_path / "router.json").symlink_to("/dev/full")
    with pytest.raises(StoreError, match="nothing was published. Make room"):
        list(train_router.train(FIT, told("router", "head", epochs=1), encoder, 1, tmp_path, 1, HELD))


def test_replaced_tensors_of_another_base_or_that_are_not_finite_are_refused(tmp_path: Path):
    from safetensors.numpy import save_file

    base = {"a": np.ones((2, 2), np.float32)}
    for array, said in ((np.ones((3, 2)), "does not have"), (np.full((2, 2), np.inf), "not finite")):
        save_file({"a": array.astype(np.float16)}, tmp_path / weights.REPLACED)
        with pytest.raises(BundleError, match=said):
            weights.replace(base, tmp_path)


def test_an_adapter_without_its_config_is_refused(encoder: BaseModel, tmp_path: Path):
    with pytest.raises(BundleError, match="no whole adapter"):
        Encoder(encoder, tmp_path)


@pytest.mark.parametrize("method", ["full", "adalora"])
def test_the_real_encoder_is_tuned_and_loads(settings: Settings, tmp_path: Path, method: str):
    base = find("minilm", settings)
    found = told("router", method, frozen_layers=4, epochs=2, batch=9, learning_rate=1e-3, dropout=0.0)
    steps = list(train_router.train(FIT, found, base, 1, tmp_path, 1, HELD))
    assert loaded_loss(tmp_path, base) == pytest.approx(min(step.held_out for step in steps if step.held_out), abs=5e-3)


@pytest.mark.parametrize("method", ["ia3", "adalora"])
def test_the_real_generator_is_tuned_and_loads(settings: Settings, tmp_path: Path, method: str):
    base = find("smollm2", settings)
    job = job_of(base, told("generator", method, frozen_layers=27, epochs=1, learning_rate=0.02))
    job = dataclasses.replace(job, epochs=[job.epochs[0][:3]])
    list(trainer.run(job))
    ids = [504, 3575, 282, 4649]
    trained, before = plain_logits(job.tuned, ids), engine_logits("onnx", base, None, ids)
    methods.save(job.tuned, job.recipe, base.path / "model.safetensors", tmp_path / "part")
    change = np.abs(trained - before).max()
    assert change > 0.05
    assert np.abs(engine_logits("onnx", base, tmp_path / "part", ids) - trained).max() < 0.05 * change
