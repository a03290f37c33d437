"""Several runs with other seeds into one part: the mean of what they changed, exact up to half precision.

LoRA folders are stacked, which gives the mean of their deltas; folders of replaced tensors are averaged tensor by tensor.
Knows folders alone, not how they were trained. Source: model soups (Wortsman et al., 2022).
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agent import weights
from agent.errors import BundleError
from agent.models import BaseModel
from tuning import finish_router, methods
from tuning.dataset import Text


def average_adapters(folders: Sequence[Path], out: Path) -> None:
    """The mean of several adapter folders of one kind, written to `out`. The rank of LoRA is the sum of theirs.

    W + 1/k sum(s_i B_i A_i) = W + [s_1 B_1 / k, ...] @ [A_1; ...], so the mean of k adapters is one adapter of scale 1.
    Raises BundleError if they adapt different tensors or are of a kind that has no mean, StoreError if the disk is full.
    """
    assert folders, "there is nothing to average"
    kinds = {_kind(folder) for folder in folders}
    if len(kinds) > 1:
        raise BundleError(f"{folders[0]} and its siblings are of several kinds ({', '.join(sorted(kinds))}) and have no mean; "
                          "train all seeds with one recipe.")
    with methods.writing(out):
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        if kinds == {"replaced"}:
            _write(_mean([weights.read(folder / weights.REPLACED) for folder in folders], folders), out / weights.REPLACED)
        else:
            _stack(folders, out)


def average_routers(folders: Sequence[Path], out: Path, base: BaseModel, held: Sequence[Text], coverage: float,
                    threads: int = 1) -> None:
    """The mean of several router folders, calibrated anew on `held`, the rows that none of them was trained on.

    coverage: share of in-scope rows that the out-of-scope threshold lets through.
    """
    tables = [json.loads((folder / "router.json").read_text(encoding="utf-8")) for folder in folders]
    if any(table["labels"] != tables[0]["labels"] for table in tables):
        raise BundleError(f"{folders[0]} and its siblings know different intents; train all seeds on the same rows.")
    tuned = [folder / "adapter" for folder in folders if (folder / "adapter").is_dir()]
    if tuned and len(tuned) < len(folders):
        raise BundleError(f"Some of {folders[0]} and its siblings have a tuned encoder and some have not; train all seeds with "
                          "one recipe.")
    out.mkdir(parents=True, exist_ok=True)
    if tuned:
        average_adapters(tuned, out / "adapter")
    head = _mean([weights.read(folder / "head.safetensors") for folder in folders], folders)
    if any(table.get("plain", False) != tables[0].get("plain", False) for table in tables):
        raise BundleError(f"Some of {folders[0]} and its siblings read the plain encoder and some do not; train all seeds with "
                          "one recipe.")
    share = float(np.mean([each["plain_share"] for each in tables])) if tables[0].get("plain") else None
    finish_router.finish(out, base, tables[0]["labels"], head["weight"], head["bias"], head["centres"], held, coverage, threads,
                         share=share)


def _kind(folder: Path) -> str:
    if (folder / weights.REPLACED).is_file():
        return "replaced"
    kind = _config(folder).get("peft_type", "LORA").lower()
    if kind != "lora":
        raise BundleError(f"{folder} is a tuned {kind}, of which there is no mean; set seeds = 1, or tune with another method.")
    return kind


def _config(folder: Path) -> dict[str, Any]:
    try:
        return json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BundleError(f"{folder} holds no whole adapter ({error}); train that seed again.") from error


def _mean(parts: Sequence[weights.Weights], folders: Sequence[Path]) -> weights.Weights:
    """Float32 mean of tensors of the same names and shapes."""
    _check_alike(parts, folders)
    return {name: np.mean([part[name] for part in parts], axis=0, dtype=np.float64).astype(np.float32) for name in parts[0]}


def _stack(folders: Sequence[Path], out: Path) -> None:
    parts = [weights.read(folder / "adapter_model.safetensors") for folder in folders]
    _check_alike([{name: value for name, value in part.items() if "lora_A" in name} for part in parts], folders, axis=1)
    _check_alike([{name: value for name, value in part.items() if "lora_B" in name} for part in parts], folders, axis=0)
    configs = [_config(folder) for folder in folders]
    for folder, config in zip(folders, configs):
        if config.get("rank_pattern") or config.get("alpha_pattern"):
            raise BundleError(f"{folder} has ranks of its own for some layers, which cannot be stacked; set seeds = 1.")
    scales = [config["lora_alpha"] / (config["r"] ** 0.5 if config.get("use_rslora") else config["r"]) for config in configs]
    stacked = {}
    for name in parts[0]:
        if "lora_A" in name:
            stacked[name] = np.concatenate([part[name] for part in parts], axis=0)
        elif "lora_B" in name:
            stacked[name] = np.concatenate([part[name] * (scale / len(parts)) for part, scale in zip(parts, scales)], axis=1)
        else:
            raise BundleError(f"{folders[0]} holds {name}, which is no part of LoRA; set seeds = 1.")
    rank = sum(config["r"] for config in configs)
    _write(stacked, out / "adapter_model.safetensors")
    config = configs[0] | {"r": rank, "lora_alpha": rank, "use_rslora": False}
    (out / "adapter_config.json").write_text(json.dumps(config, indent=1, sort_keys=True), encoding="utf-8")


def _check_alike(parts: Sequence[weights.Weights], folders: Sequence[Path], axis: int | None = None) -> None:
    """Refuse parts that differ in names or shapes; with `axis`, only that axis has to be the same."""
    for part, folder in zip(parts, folders):
        shapes = [{name: value.shape if axis is None else value.shape[axis] for name, value in each.items()}
                  for each in (part, parts[0])]
        if shapes[0] != shapes[1]:
            raise BundleError(f"{folder} changes other tensors than {folders[0]}, so they have no mean; train all seeds with "
                              "one recipe on one base model.")


def _write(tensors: weights.Weights, file: Path) -> None:
    from safetensors.numpy import save_file

    save_file({name: np.ascontiguousarray(value, np.float16) for name, value in tensors.items()}, file)
