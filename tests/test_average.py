"""The mean of several seeds: exactly the mean of the merged weights, read by the agent's engines and by peft alike."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from agent import weights
from agent.errors import BundleError, StoreError
from agent.models import BaseModel, find
from agent.router import Router
from agent.settings import Settings
from tuning import recipe, train_router
from tuning.average import average_adapters, average_routers
from tuning.dataset import OOS, Text

LAYERS = [f"encoder.layer.{n}.{name}" for n in (0, 5) for name in ("attention.self.query", "output.dense")]
WISHES = {"refund": ["I want my money back", "please refund me", "give me back what I paid", "refund this order now"],
          "delivery": ["when does it arrive", "where is my parcel", "has it been shipped yet", "track my delivery"],
          OOS: ["what is the weather", "tell me a joke", "who won the match", "write me a poem"]}
ROWS = [Text(text, intent) for intent, texts in WISHES.items() for text in texts[:3]]
HELD = [Text(texts[3], intent) for intent, texts in WISHES.items()]


@pytest.fixture(scope="module")
def base(real_models: Path) -> BaseModel:
    return find("minilm", Settings.load(home=real_models.parent))


@pytest.fixture(scope="module")
def plain(base: BaseModel) -> weights.Weights:
    return weights.read(base.path / "model.safetensors")


def make_adapter(folder: Path, plain: weights.Weights, seed: int, layers: list[str] = LAYERS, **config: object) -> Path:
    """A LoRA folder as peft writes it, of random values as large as the weights themselves."""
    from safetensors.numpy import save_file

    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "lora_dropout": 0.0, "bias": "none", "inference_mode": True,
              "target_modules": r"encoder\.layer\.(0|5)\.(attention\.self\.query|output\.dense)"} | config
    drawn, tensors = np.random.default_rng(seed), {}
    for layer in layers:
        up, down = plain[f"{layer}.weight"].shape
        tensors[f"base_model.model.{layer}.lora_A.weight"] = drawn.normal(0, 0.05, (config["r"], down)).astype(np.float16)
        tensors[f"base_model.model.{layer}.lora_B.weight"] = drawn.normal(0, 0.05, (up, config["r"])).astype(np.float16)
    folder.mkdir(parents=True)
    save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def make_replaced(folder: Path, tensors: dict[str, np.ndarray]) -> Path:
    from safetensors.numpy import save_file

    folder.mkdir(parents=True)
    save_file(tensors, folder / weights.REPLACED)
    return folder


@pytest.fixture
def adapters(plain: weights.Weights, tmp_path: Path) -> list[Path]:
    """Three of other ranks and scales."""
    return [make_adapter(tmp_path / "a", plain, 1), make_adapter(tmp_path / "b", plain, 2, r=2, lora_alpha=3),
            make_adapter(tmp_path / "c", plain, 3, r=9, lora_alpha=6, use_rslora=True)]


def test_stacked_adapters_are_the_mean_of_the_merged_weights(adapters: list[Path], plain: weights.Weights, tmp_path: Path):
    average_adapters(adapters, tmp_path / "out")
    merged, each = weights.merge(plain, tmp_path / "out"), [weights.merge(plain, folder) for folder in adapters]
    moved = [name for name in plain if not np.array_equal(merged[name], plain[name])]
    assert sorted(moved) == sorted(f"{layer}.weight" for layer in LAYERS)
    for name in moved:
        mean = np.mean([part[name] for part in each], axis=0)
        assert np.abs(merged[name] - mean).max() <= 1e-3 * np.abs(mean - plain[name]).max(), name


def test_peft_reads_the_mean_too(adapters: list[Path], base: BaseModel, plain: weights.Weights, tmp_path: Path):
    import torch
    from peft import PeftModel
    from transformers import AutoModel

    average_adapters(adapters, tmp_path / "out")
    model = AutoModel.from_pretrained(base.path, dtype=torch.float32, add_pooling_layer=False)
    state = PeftModel.from_pretrained(model, tmp_path / "out").merge_and_unload().state_dict()
    merged = weights.merge(plain, tmp_path / "out")
    for layer in LAYERS:
        assert np.allclose(state[f"{layer}.weight"].numpy(), merged[f"{layer}.weight"], atol=1e-5)


def test_one_adapter_is_its_own_mean(adapters: list[Path], plain: weights.Weights, tmp_path: Path):
    average_adapters(adapters[:1], tmp_path / "out")
    one, same = (weights.merge(plain, folder)[f"{LAYERS[0]}.weight"] for folder in (adapters[0], tmp_path / "out"))
    assert np.allclose(one, same, atol=1e-4)


def test_replaced_tensors_are_averaged(plain: weights.Weights, tmp_path: Path):
    name, drawn = f"{LAYERS[0]}.weight", np.random.default_rng(1)
    tensors = [(plain[name] + drawn.normal(0, 0.05, plain[name].shape)).astype(np.float16) for _ in range(3)]
    folders = [make_replaced(tmp_path / str(n), {name: each}) for n, each in enumerate(tensors)]
    average_adapters(folders, tmp_path / "out")
    assert np.allclose(weights.replace(plain, tmp_path / "out")[name], np.mean(tensors, axis=0, dtype=np.float64), atol=1e-3)
    assert [path.name for path in (tmp_path / "out").iterdir()] == [weights.REPLACED]


def test_parts_without_a_mean_are_refused(adapters: list[Path], plain: weights.Weights, tmp_path: Path):
    fewer = make_adapter(tmp_path / "fewer", plain, 1, LAYERS[:2])
    prefix = make_adapter(tmp_path / "prefix", plain, 1, peft_type="PREFIX_TUNING")
    ranks = make_adapter(tmp_path / "ranks", plain, 1, rank_pattern={"query": 2})
    replaced = make_replaced(tmp_path / "replaced", {f"{LAYERS[0]}.weight": plain[f"{LAYERS[0]}.weight"]})
    small = make_replaced(tmp_path / "small", {f"{LAYERS[0]}.weight": np.zeros((2, 2), np.float32)})
    (tmp_path / "empty").mkdir()
    for folders, why in [([adapters[0], fewer], "other tensors"), ([prefix, prefix], "prefix_tuning"),
                         ([ranks, ranks], "ranks"), ([adapters[0], replaced], "several kinds"),
                         ([replaced, small], "other tensors"), ([adapters[0], tmp_path / "empty"], "no whole adapter")]:
        with pytest.raises(BundleError, match=why):
            average_adapters(folders, tmp_path / "out")


def test_a_folder_that_cannot_be_written_is_said_so(adapters: list[Path], tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot be written"):
        average_adapters(adapters, tmp_path / "file" / "out")


@pytest.fixture(scope="module")
def seeds(base: BaseModel, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two routers of the same rows."""
    small = replace(recipe.load("default").router, epochs=4, batch=9, rank=4, alpha=8)
    folders = [tmp_path_factory.mktemp(f"seed{seed}") for seed in (1, 2)]
    for seed, folder in enumerate(folders):
        list(train_router.train(ROWS, small, base, seed, folder, 1, HELD))
    return folders


def test_the_mean_of_two_routers_routes_and_is_calibrated_anew(seeds: list[Path], base: BaseModel, plain: weights.Weights,
                                                               tmp_path: Path):
    average_routers(seeds, tmp_path / "out", base, HELD, 0.97)
    router = Router(tmp_path / "out", base, 1)
    assert [route.ranking[0][0] for route in router.route(["please give me my money back", "where is my parcel now"])] \
        == ["refund", "delivery"]
    merged = weights.merge(plain, tmp_path / "out" / "adapter")
    each = [weights.merge(plain, folder / "adapter") for folder in seeds]
    assert not np.allclose(each[0][f"{LAYERS[0]}.weight"], each[1][f"{LAYERS[0]}.weight"], atol=1e-4)
    mean = np.mean([part[f"{LAYERS[0]}.weight"] for part in each], axis=0)
    assert np.allclose(merged[f"{LAYERS[0]}.weight"], mean, atol=1e-5)
    heads = [weights.read(folder / "head.safetensors") for folder in (*seeds, tmp_path / "out")]
    assert all(np.allclose(heads[2][name], (heads[0][name] + heads[1][name]) / 2, atol=1e-5) for name in ("weight", "bias"))
    tables = [json.loads((folder / "router.json").read_text(encoding="utf-8")) for folder in (*seeds, tmp_path / "out")]
    assert set(tables[2]) == set(tables[0]) and tables[2]["labels"] == tables[0]["labels"] and tables[2]["held_out_rows"] == 3
    inside = router.score([row.text for row in HELD if row.intent != OOS])[1]
    assert float(np.quantile(inside, 0.97)) == pytest.approx(router.threshold, abs=1e-5)


def test_heads_alone_are_averaged_over_the_plain_encoder(seeds: list[Path], base: BaseModel, tmp_path: Path):
    for number, folder in enumerate(seeds):
        (tmp_path / str(number)).mkdir()
        for name in ("head.safetensors", "router.json"):
            (tmp_path / str(number) / name).write_bytes((folder / name).read_bytes())
    average_routers([tmp_path / "0", tmp_path / "1"], tmp_path / "out", base, HELD, 0.97)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["head.safetensors", "router.json"]
    assert Router(tmp_path / "out", base, 1).score(["where is my parcel"])[0].shape == (1, 2)
    with pytest.raises(BundleError, match="some have not"):
        average_routers([seeds[0], tmp_path / "0"], tmp_path / "more", base, HELD, 0.97)


def test_routers_of_other_intents_have_no_mean(seeds: list[Path], base: BaseModel, tmp_path: Path):
    table = json.loads((seeds[0] / "router.json").read_text(encoding="utf-8"))
    (tmp_path / "router.json").write_text(json.dumps(table | {"labels": ["delivery", "returns"]}), encoding="utf-8")
    with pytest.raises(BundleError, match="different intents"):
        average_routers([seeds[0], tmp_path], tmp_path / "out", base, HELD, 0.97)
