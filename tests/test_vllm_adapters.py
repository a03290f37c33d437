"""What vLLM would refuse, or serve as nonsense without a word, is refused before it sees it; what it gets stays as it is."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny
from safetensors.numpy import save_file

from agent import paths
from agent.domain import Domain
from agent.errors import BundleError
from agent.models import BaseModel
from agent.settings import Settings
from agent.vllm import adapters
from agent.vllm.adapters import FILES, check, export

ROOT = Path(__file__).parent.parent
CONFIG, WEIGHTS = FILES
LAYER = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
Change = Callable[[Path], None]
STEPS = ("restore it", "choose another version", "retrain", "train with", "set engine")  # of which a refusal names one


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    """Two layers, 32 wide."""
    return tiny.base(tmp_path_factory.mktemp("base") / "base")


@pytest.fixture(scope="module")
def part(base: BaseModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A right one of rank 8, by PEFT itself."""
    return tiny.adapter(base, tmp_path_factory.mktemp("adapter") / "generator")


@pytest.fixture(scope="module")
def domain() -> Domain:
    """For its prompts alone."""
    return Domain.load("customer_service")


@pytest.fixture
def settings(home: Path) -> Settings:
    """An empty home."""
    return Settings.load(home=home, threads=1)


def test_a_right_adapter_passes(base: BaseModel, part: Path) -> None:
    check(part, base)
    assert adapters.rank(part) == 8


# ---- mutants: each is one change to a right adapter, by name

def header_of(data: bytes) -> int:
    """Bytes of length and header."""
    return 8 + int.from_bytes(data[:8], "little")


def flipped(place: int, bit: int) -> Change:
    """One bit of the weights file."""
    def change(folder: Path) -> None:
        data = bytearray((folder / WEIGHTS).read_bytes())
        data[place] ^= 1 << bit
        (folder / WEIGHTS).write_bytes(data)

    return change


def cut(length: int) -> Change:
    """The first bytes of the weights file alone."""
    return lambda folder: os.truncate(folder / WEIGHTS, length)


def config(**values: object) -> Change:
    """Other words in the configuration; None of `...` takes one out."""
    def change(folder: Path) -> None:
        table = json.loads((folder / CONFIG).read_text(encoding="utf-8")) | values
        said = {key: value for key, value in table.items() if value is not ...}
        (folder / CONFIG).write_text(json.dumps(said), encoding="utf-8")

    return change


def text(file: str, said: str | bytes) -> Change:
    """Other content."""
    return lambda folder: None if (folder / file).write_bytes(said if isinstance(said, bytes) else said.encode()) else None


def arrays(change: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]) -> Change:
    """Other tensors, in a whole safetensors file."""
    def change_file(folder: Path) -> None:
        changed = change(tiny.tensors(folder / WEIGHTS))
        save_file({key: np.ascontiguousarray(array) for key, array in changed.items()}, folder / WEIGHTS)

    return change_file


def renamed(old: str, new: str) -> Change:
    return arrays(lambda table: {key.replace(old, new): array for key, array in table.items()})


def value(key: str, number: float, place: int) -> Change:
    """One value of one tensor."""
    def change(table: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        array = table[key].copy()
        array.flat[place % array.size] = number
        return table | {key: array}

    return arrays(change)


def all_but(*endings: str) -> Change:
    return arrays(lambda table: {key: array for key, array in table.items() if not key.endswith(endings)})


def header(change: Callable[[dict], dict]) -> Change:
    """Another header before the same bytes."""
    def change_file(folder: Path) -> None:
        data = (folder / WEIGHTS).read_bytes()
        end = header_of(data)
        said = json.dumps(change(json.loads(data[8:end]))).encode()
        (folder / WEIGHTS).write_bytes(len(said).to_bytes(8, "little") + said + data[end:])

    return change_file


def entry(**values: object) -> Change:
    """Another entry of one layer in the header."""
    return header(lambda table: table | {LAYER: table[LAYER] | values})


def as_bin(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / "adapter_model.bin")


def in_full(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / "weights.safetensors")
    (folder / CONFIG).unlink()


def a_folder(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).mkdir()


def huge(folder: Path) -> None:
    """A and B that are finite, and whose product is not."""
    arrays(lambda table: {key: np.full_like(array, 3e30) for key, array in table.items()})(folder)


def mutants(part: Path) -> Iterator[tuple[str, Change]]:
    """(name, change) of every one."""
    data = (part / WEIGHTS).read_bytes()
    end, keys = header_of(data), sorted(tiny.tensors(part / WEIGHTS))
    note = data.find(b'"__metadata__"')
    harmless = range(note, data.find(b"}", note) + 1)  # a note that nobody reads
    places = [place for place in range(8, end) if place not in harmless]
    for number, place in enumerate(places[::len(places) // 110]):
        yield f"bit {number % 8} of byte {place} in the header", flipped(place, number % 8)
    for place in range(8):
        yield f"bit 1 of byte {place} in the length of the header", flipped(place, 1)
    step = (len(data) - end) // 30
    for length in sorted({*range(20), *range(end - 3, end + 4), *range(end, len(data), step), len(data) - 1}):
        yield f"the first {length} bytes", cut(length)
    yield "more bytes than tensors", lambda folder: text(WEIGHTS, data + b"\0" * 64)(folder)
    for number, key in enumerate(keys):
        yield f"{('nan', 'inf', '-inf')[number % 3]} in {key}", value(key, (np.nan, np.inf, -np.inf)[number % 3], 37 * number)
    yield "a product that is not finite", huge
    for wrong in (1, 4, 7, 9, 16, 64, 512):
        yield f"rank {wrong} written for 8", config(r=wrong)
    for wrong in (0, -8, 513, 1024, 8.0, "8", True, None, [8], ...):
        yield f"rank {wrong!r} written", config(r=wrong)
    for wrong in (0, -1, float("nan"), float("inf"), "16", None, True, ...):
        yield f"lora_alpha {wrong!r} written", config(lora_alpha=wrong)
    for wrong in (None, [], "", [1], {"q_proj": 1}, 3, ...):
        yield f"target_modules {wrong!r}", config(target_modules=wrong)
    for kind in ("IA3", "PREFIX_TUNING", "PROMPT_TUNING", "ADALORA", "LOHA", "LOKR", "OFT", "VERA", "MISS", None, 7):
        yield f"peft_type {kind}", config(peft_type=kind)
    for start in ("pissa", "pissa_niter_4", "olora", "corda", "loftq", "PiSSA", "something"):
        yield f"begun by {start}", config(init_lora_weights=start)
    for key, said in {"use_dora": True, "lora_bias": True, "bias": "all", "modules_to_save": ["lm_head"],
                      "layer_replication": [[0, 2]], "alora_invocation_tokens": [1], "use_qalora": True, "fan_in_fan_out": True,
                      "rank_pattern": {"q_proj": 4}, "alpha_pattern": {"q_proj": 64}, "use_bdlora": {"nblocks": 2},
                      "target_parameters": ["mlp.experts"], "trainable_token_indices": [1, 2]}.items():
        yield f"{key} {said}", config(**{key: said})
    yield "bias lora_only", config(bias="lora_only")
    for said in ("", "{", "[]", "null", "7", '"r"', "[1, 2]", "[" * 200_000, b"\xff\xfe{}", '{"r": 8', "{}"):
        yield f"configuration {said[:8]!r}", text(CONFIG, said)
    yield "no configuration", lambda folder: (folder / CONFIG).unlink()
    yield "no weights", lambda folder: (folder / WEIGHTS).unlink()
    yield "nothing at all", lambda folder: shutil.rmtree(folder)
    yield "weights as .bin alone", as_bin
    yield "weights in full", in_full
    yield "a folder for weights", a_folder
    for said in ("", "hello", "<html>", b"PK\x03\x04" * 9, b"\x80\x02}q\x00.", b"\xff" * 64, b"\0" * 64,
                 (10**12).to_bytes(8, "little") + b"{}", (2).to_bytes(8, "little") + b"{}", (2).to_bytes(8, "little") + b"[]",
                 (200_000).to_bytes(8, "little") + b"[" * 200_000, (4).to_bytes(8, "little") + b"null"):
        yield f"weights {said[:10]!r}", text(WEIGHTS, said)
    yield "other offsets", entry(data_offsets=[0, 1024])
    for said in ([-1, 32], [8, -1], [32, 8], [256], [1, 8, 32], [], ["8", "32"], [8.0, 32], 256, None):
        yield f"shape {said}", entry(shape=said)
    for said in ([0], [1, 2, 3], "ab", None, [1024, 0], [-1024, 0], [0, 10**15]):
        yield f"offsets {said}", entry(data_offsets=said)
    for said in ("I32", "F16", "F64", "F8_E4M3", "BOOL", "x", None, [], 3):
        yield f"dtype {said}", entry(dtype=said)
    yield "an entry that is none", header(lambda table: table | {LAYER: 7})
    yield "one name less", header(lambda table: {key: said for key, said in table.items() if key != LAYER})
    yield "whole numbers", arrays(lambda table: {key: array.astype(np.int32) for key, array in table.items()})
    yield "no tensor", arrays(lambda table: {})
    yield "A without B", all_but("lora_B.weight")
    yield "B without A", all_but("lora_A.weight")
    yield "one A less", all_but("layers.1.self_attn.k_proj.lora_A.weight")
    yield "one B less", all_but("layers.0.mlp.up_proj.lora_B.weight")
    for old, new in (("layers.1", "layers.2"), ("layers.0", "layers.99"), ("q_proj", "query"), ("base_model.model.", ""),
                     ("base_model", "bert"), ("model.layers", "transformer.h"), ("lora_A", "ia3_l"), ("lora_A", "lora_E"),
                     ("lora_B.weight", "lora_B.bias"), (".weight", ".default.weight"), ("q_proj", "up_proj_"),
                     ("lora_A", "lora_embedding_A"), ("self_attn", "cross_attn")):
        yield f"{old} named {new}", renamed(old, new)
    for key, shape in ((LAYER.replace("lora_A", "lora_magnitude_vector"), 32), ("base_model.model.lm_head.weight", (257, 32))):
        yield f"{key} beside", arrays(lambda table, key=key, shape=shape: table | {key: np.ones(shape, np.float32)})
    yield "one layer of rank 4", arrays(lambda table: table | {
        LAYER: table[LAYER][:4], LAYER.replace("lora_A", "lora_B"): table[LAYER.replace("lora_A", "lora_B")][:, :4]})
    yield "A of rank 4, B of rank 8", arrays(lambda table: table | {LAYER: table[LAYER][:4]})
    yield "every layer turned", arrays(lambda table: {key: array.T for key, array in table.items()})
    yield "A and B for each other", arrays(lambda table: {
        key.replace("lora_A", "?").replace("lora_B", "lora_A").replace("?", "lora_B"): a for key, a in table.items()})
    yield "three dimensions", arrays(lambda table: {key: array[None] for key, array in table.items()})
    yield "one dimension", arrays(lambda table: {key: array.ravel() for key, array in table.items()})
    yield "twice as wide, as of another base", arrays(lambda table: {
        key: np.repeat(array, 2, axis=int(key.endswith("lora_A.weight"))) for key, array in table.items()})


@pytest.mark.parametrize("write", [arrays(dict), header(dict), config()])
def test_what_is_written_anew_without_a_change_passes(write: Change, base: BaseModel, part: Path, tmp_path: Path) -> None:
    shutil.copytree(part, tmp_path / "same")
    write(tmp_path / "same")
    check(tmp_path / "same", base)


def folders(settings: Settings) -> list[str]:
    return [path.name for path in (paths.vllm(settings.home) / "adapters").iterdir() if path.suffix != ".lock"]


def test_every_mutant_is_refused_with_a_sentence_and_nothing_is_written(base: BaseModel, part: Path, domain: Domain,
                                                                        settings: Settings, tmp_path: Path) -> None:
    taken, untold, other = [], [], []
    all_of_them = list(mutants(part))
    for number, (name, change) in enumerate(all_of_them):
        made = tiny.bundle(tmp_path / str(number), part)  # its manifest is of before the change, as if none were checked
        change(made.path / "generator")
        try:
            export(made, domain, base, settings)
            taken.append(name)
        except BundleError as error:
            if not any(step in str(error) for step in STEPS):
                untold.append((name, str(error)))
        except Exception as error:
            other.append((name, repr(error)))
        shutil.rmtree(made.path)
    assert (taken, untold, other) == ([], [], [])
    assert len(all_of_them) >= 200 and len({name for name, _ in all_of_them}) == len(all_of_them)
    assert folders(settings) == []


def test_an_adapter_of_a_wider_base_is_refused(part: Path, tmp_path: Path) -> None:
    wider = tiny.base(tmp_path / "wider", width=64)
    with pytest.raises(BundleError, match="this base model does not have"):
        check(part, wider)


@pytest.mark.parametrize("kind", ["bfloat16", "float16"])
def test_half_precision_is_read_as_it_is(kind: str, base: BaseModel, part: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file
    from safetensors.torch import save_file as save

    shutil.copytree(part, tmp_path / "half")
    save({key: array.to(getattr(torch, kind)) for key, array in load_file(part / WEIGHTS).items()}, tmp_path / "half" / WEIGHTS)
    check(tmp_path / "half", base)
    value(LAYER, float("nan"), 3)(tmp_path / "half") if kind == "float16" else None
    if kind == "float16":
        with pytest.raises(BundleError, match="not finite"):
            check(tmp_path / "half", base)


@pytest.mark.parametrize("said", [{"r": 4, "lora_alpha": 16}, {"use_rslora": True}, {"init_lora_weights": "gaussian"},
                                  {"target_modules": ["q_proj"]}, {"layers_to_transform": [1]}])
def test_what_vllm_serves_is_not_refused(said: dict, base: BaseModel, tmp_path: Path) -> None:
    check(tiny.adapter(base, tmp_path / "other", **said), base)


def test_a_flipped_bit_that_leaves_values_finite_is_seen_by_the_bundle_and_mended_in_the_export(
        base: BaseModel, part: Path, domain: Domain, settings: Settings, tmp_path: Path) -> None:
    data = (part / WEIGHTS).read_bytes()
    middle = (header_of(data) + len(data)) // 2 // 4 * 4
    made = tiny.bundle(tmp_path / "bundle", part)
    served = export(made, domain, base, settings)
    flipped(middle, 5)(served.folder)
    check(served.folder, base)  # a number like any other
    assert export(made, domain, base, settings) == served
    assert (served.folder / WEIGHTS).read_bytes() == data
    made.verify()
    flipped(middle, 5)(made.path / "generator")
    with pytest.raises(BundleError, match="damaged or missing"):
        made.verify()


# ---- the folder that servers load from

def test_the_name_carries_bundle_and_hash_and_the_folder_all_that_a_server_reads(base: BaseModel, part: Path, domain: Domain,
                                                                                 settings: Settings, tmp_path: Path) -> None:
    first = export(tiny.bundle(tmp_path / "a", part), domain, base, settings)
    other = export(tiny.bundle(tmp_path / "b", tiny.adapter(base, tmp_path / "other", seed=5)), domain, base, settings)
    later = export(tiny.bundle(tmp_path / "c", part, version=8), domain, base, settings)
    assert first.name.startswith("customer_service@0007-") and len(first.name) == len("customer_service@0007-") + 8
    assert len({first.name, other.name, later.name}) == 3 and first.name[-8:] == later.name[-8:] != other.name[-8:]
    assert sorted(path.name for path in first.folder.iterdir()) == [CONFIG, WEIGHTS, "canary.json"]
    assert (first.rank, len(first.probes)) == (8, 3) and first.folder.parent == paths.vllm(settings.home) / "adapters"


def test_the_folder_stays_when_the_bundle_is_deleted(base: BaseModel, part: Path, domain: Domain, settings: Settings,
                                                     tmp_path: Path) -> None:
    made = tiny.bundle(tmp_path / "bundle", part)
    first = export(made, domain, base, settings)
    shutil.rmtree(made.path)
    assert (first.folder / WEIGHTS).read_bytes() == (part / WEIGHTS).read_bytes()
    check(first.folder, base)


def test_a_second_call_reads_what_is_there_and_computes_nothing(base: BaseModel, part: Path, domain: Domain,
                                                                settings: Settings, tmp_path: Path) -> None:
    made = tiny.bundle(tmp_path / "bundle", part)
    first = export(made, domain, base, settings)
    gone = BaseModel(base.name, tmp_path / "no-such-base", base.fingerprint)  # whoever looked at it would fail
    assert export(made, domain, gone, settings).probes == first.probes
    shutil.rmtree(first.folder)
    with pytest.raises(BundleError):
        export(made, domain, gone, settings)


def test_an_export_that_was_killed_is_made_again(base: BaseModel, part: Path, domain: Domain, settings: Settings,
                                                 tmp_path: Path) -> None:
    made = tiny.bundle(tmp_path / "bundle", part)
    whole = export(made, domain, base, settings)
    kept = {path.name: path.read_bytes() for path in whole.folder.iterdir()}
    scratch = whole.folder.with_name(f".{whole.name}.new")
    for left in ((CONFIG,), (CONFIG, WEIGHTS), (CONFIG, WEIGHTS, "canary.json")):  # before it bore its name
        shutil.rmtree(whole.folder)
        scratch.mkdir()
        for file in left:
            (scratch / file).write_bytes(kept[file][:20])
        assert export(made, domain, base, settings) == whole
        assert {path.name: path.read_bytes() for path in whole.folder.iterdir()} == kept and not scratch.exists()
    (whole.folder / "canary.json").unlink()  # and one that is not whole under its name
    assert export(made, domain, base, settings) == whole


def test_two_threads_and_another_process_at_once_make_one_folder(base: BaseModel, part: Path, domain: Domain,
                                                                settings: Settings, tmp_path: Path) -> None:
    made = tiny.bundle(tmp_path / "bundle", part)
    code = ("import sys; from pathlib import Path; from agent.bundle import Bundle; from agent.domain import Domain\n"
            "from agent.models import BaseModel; from agent.settings import Settings; from agent.vllm.adapters import export\n"
            "home, base, mark, bundle = sys.argv[1:]; domain = Domain.load('customer_service')\n"
            "made = Bundle.read('customer_service', 7, Path(bundle)); print('ready', flush=True); sys.stdin.readline()\n"
            "told = export(made, domain, BaseModel('tiny', Path(base), mark), Settings.load(home=home, threads=1))\n"
            "print(told.name, (told.folder / 'canary.json').stat().st_ino, 'torch' in sys.modules)")
    command = [sys.executable, "-c", code, str(settings.home), str(base.path), base.fingerprint, str(made.path)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other, \
            ThreadPoolExecutor(2) as pool:
        assert other.stdout is not None and other.stdout.readline() == "ready\n"
        exports = [pool.submit(export, made, domain, base, settings) for _ in range(2)]
        while not list(settings.home.glob("vllm/adapters/*.lock")):  # until one of them is at work
            assert not exports[0].done()
        said = other.communicate("go\n", timeout=100)[0]
        here = [told.result() for told in exports]
    assert other.returncode == 0 and here[0] == here[1] and folders(settings) == [here[0].name]
    assert said == f"{here[0].name} {(here[0].folder / 'canary.json').stat().st_ino} False\n"  # it waited and computed nothing


def test_a_bundle_without_a_generator_is_the_plain_base_with_a_canary(base: BaseModel, domain: Domain, settings: Settings,
                                                                     tmp_path: Path) -> None:
    plain = export(tiny.bundle(tmp_path / "bundle", None), domain, base, settings)
    assert (plain.name, plain.folder, plain.rank) == ("", None, 0)
    assert len(plain.probes) == 2 and all(probe.base == probe.tuned for probe in plain.probes)


def test_a_domain_without_examples_has_a_canary_too(base: BaseModel, part: Path, settings: Settings, tmp_path: Path) -> None:
    bare = replace(Domain.load("customer_service"), examples=())
    served = export(tiny.bundle(tmp_path / "bundle", part), bare, base, settings)
    assert len(served.probes) == 3 and served.probes[0].answer
