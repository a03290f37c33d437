"""Weights as float32 numpy arrays: safetensors in, what was tuned merged. No torch, so that an agent starts in a second."""

import json
from pathlib import Path

import numpy as np

from agent.errors import BundleError

Weights = dict[str, np.ndarray]
REPLACED = "weights.safetensors"  # of a part: tensors that take the place of the base's
_DTYPES = {"F32": np.float32, "F16": np.float16, "I64": np.int64, "I32": np.int32, "BF16": np.uint16}


def load(base_file: Path, part: Path | None) -> Weights:
    """The base with a tuned part in it: a LoRA folder is merged, a folder of changed tensors replaces them; None: the base.

    Raises BundleError if the part is damaged, belongs to another base, or can be merged nowhere.
    """
    base = read(base_file)
    if part is None:
        return base
    return replace(base, part) if (part / REPLACED).is_file() else merge(base, part)


def method(part: Path) -> str:
    """What a part is: `replaced`, or PEFT's name for it in small letters, such as `lora` or `prefix_tuning`."""
    return "replaced" if (part / REPLACED).is_file() else str(_config(part).get("peft_type", "lora")).lower()


def read(file: Path) -> Weights:
    """Tensors of a safetensors file; floating ones as float32. Raises BundleError if it is cut or not safetensors."""
    try:
        with file.open("rb") as stream:
            header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
            start = stream.tell()
        header.pop("__metadata__", None)
        raw = np.memmap(file, dtype=np.uint8, mode="r", offset=start)
        ends = sorted(entry["data_offsets"] for entry in header.values())
        if [0, *(end for _, end in ends)] != [*(begin for begin, _ in ends), len(raw)]:
            raise ValueError("its tensors do not fill it one after the other")  # one was lost with its name, or the end is
        return {name: _tensor(raw, entry) for name, entry in header.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, MemoryError, OverflowError) as error:
        raise BundleError(f"{file} is not a whole safetensors file ({error}); restore it or choose another version.") from error


def _tensor(raw: np.ndarray, entry: dict) -> np.ndarray:
    begin, end = entry["data_offsets"]
    if any(size < 0 for size in entry["shape"]):
        raise ValueError(f"a tensor has the shape {entry['shape']}")
    array = raw[begin:end].view(_DTYPES[entry["dtype"]]).reshape(entry["shape"])
    if entry["dtype"] == "BF16":  # bf16 is the upper half of float32
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(np.float32) if array.dtype.kind == "f" else np.array(array)


def replace(base: Weights, part: Path) -> Weights:
    """A copy of `base` with the part's tensors in place of its own. Refuses names and shapes that the base lacks."""
    changed = read(part / REPLACED)
    for name, array in changed.items():
        if name not in base or base[name].shape != array.shape:
            raise BundleError(f"{part} replaces {name}, which this base model does not have; retrain the bundle.")
        if not np.isfinite(array).all():
            raise BundleError(f"{part} holds values that are not finite in {name}; choose another version.")
    return base | changed


def _config(adapter: Path) -> dict:
    try:
        return json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BundleError(f"{adapter} holds no whole adapter ({error}); restore it or choose another version.") from error


def merge(base: Weights, adapter: Path) -> Weights:
    """A copy of `base` with a PEFT LoRA folder added in: W + scale * B @ A. Refuses keys that the base lacks."""
    config = _config(adapter)
    if config.get("peft_type", "LORA") != "LORA":
        raise BundleError(f"{adapter} is {config['peft_type']}, which can be merged nowhere; set engine = 'transformers', "
                          "or tune with another method.")
    scale = config["lora_alpha"] / (config["r"] ** 0.5 if config.get("use_rslora") else config["r"])
    low_rank = read(adapter / "adapter_model.safetensors")
    merged = dict(base)
    for key in (name for name in low_rank if name.endswith("lora_A.weight")):
        target = key.removeprefix("base_model.model.").replace("lora_A.weight", "weight")
        up, down = low_rank[key.replace("lora_A", "lora_B")], low_rank[key]
        if target not in base or base[target].shape != (up.shape[0], down.shape[1]):
            raise BundleError(f"{adapter} adapts {target}, which this base model does not have; retrain the bundle.")
        if not (np.isfinite(up).all() and np.isfinite(down).all()):
            raise BundleError(f"{adapter} holds values that are not finite in {target}; choose another version.")
        merged[target] = base[target] + scale * (up @ down)
    return merged
