"""What is tuned: LoRA and its kin, IA3, a prefix, all weights or the head alone; and in which form it is saved.

What can stand beside the base is saved as a LoRA adapter, what can be merged as the tensors that changed. Knows models
of transformers and peft, nothing about rows or losses.
"""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from agent import weights
from agent.errors import DataError, StoreError
from tuning.recipe import PartRecipe
from tuning.steps import save_adapter

LINEAR = {"router": ["query", "key", "value", "dense"],
          "generator": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]}
# (IA)3 scales keys, values and what enters the last layer of the feed-forward part (Liu et al., 2022)
SCALED = {"router": (r"attention\.self\.(?:key|value)", r"output\.dense"),
          "generator": (r"self_attn\.(?:k|v)_proj", r"mlp\.down_proj")}
SERVABLE = {
    "lora": (True, "vLLM serves the adapter as it is."),
    "rslora": (True, "vLLM serves the adapter as it is."),
    "adalora": (True, "AdaLoRA is saved as a plain LoRA adapter, which vLLM serves."),
    "ia3": (False, "vLLM cannot serve IA3 as an adapter: it is merged at export, and the agent's own engines load it."),
    "full": (False, "vLLM cannot serve changed weights as an adapter: those that changed are saved, and the agent's own "
                    "engines load them."),
    "prefix": (False, "vLLM cannot serve a tuned prefix, and it can be merged nowhere: only engine = 'transformers' loads it."),
    "head": (True, "Only the head is tuned, and vLLM never serves a router."),
}


def servable(method: str) -> tuple[bool, str]:
    """(whether vLLM can serve a generator tuned so, a sentence that says how it is saved)."""
    return SERVABLE[method]


def apply(model: Any, recipe: PartRecipe, part: str, total: int) -> Any:
    """The model with what is tuned set to move and all else frozen; a PEFT model where the method is one of PEFT's.

    part: router or generator; total: steps of the optimiser, which AdaLoRA plans its ranks by.
    Raises DataError if the recipe freezes more layers than there are, or the part knows no such method.
    """
    from peft import AdaLoraConfig, IA3Config, LoraConfig, PrefixTuningConfig, get_peft_model

    layers, frozen, method = model.config.num_hidden_layers, recipe.frozen_layers, recipe.method
    if frozen >= layers and method != "head":
        raise DataError(f"[{part}] frozen_layers = {frozen} leaves nothing to tune: the base has {layers} layers; take fewer.")
    task = "CAUSAL_LM" if part == "generator" else None
    dropout = recipe.dropout if part == "generator" else 0.0
    _set_dropout(model, recipe.dropout, attention=method not in ("lora", "rslora", "adalora"))
    low_rank = {"lora_alpha": recipe.alpha, "lora_dropout": dropout, "bias": "none", "target_modules": LINEAR[part],
                "task_type": task, "layers_to_transform": list(range(frozen, layers))}
    if method in ("lora", "rslora"):
        return get_peft_model(model, LoraConfig(r=recipe.rank, use_rslora=method == "rslora", **low_rank))
    if method == "adalora":  # starts with half a rank more than it may keep; the first tenth warms up, the last quarter settles
        return get_peft_model(model, AdaLoraConfig(
            init_r=max(recipe.rank + 1, round(1.5 * recipe.rank)), target_r=recipe.rank, total_step=total, tinit=total // 10,
            tfinal=total // 4, deltaT=max(1, total // 100), orth_reg_weight=0.5, **low_rank))
    if method == "ia3":
        which = "|".join(map(str, range(frozen, layers)))
        attention, forward = SCALED[part]
        return get_peft_model(model, IA3Config(task_type=task, feedforward_modules=rf".*layers?\.\d+\.{forward}",
                                               target_modules=rf".*layers?\.(?:{which})\.(?:{attention}|{forward})"))
    if method == "prefix":
        if part == "router":
            raise DataError("[router] method = 'prefix' can be merged nowhere, and the encoder's engine has no place for it; "
                            "take lora, ia3, full or head.")
        if frozen:
            raise DataError("[generator] a prefix reaches every layer: set frozen_layers = 0 with method = 'prefix'.")
        tuned = get_peft_model(model, PrefixTuningConfig(task_type=task, num_virtual_tokens=recipe.rank))
        tuned.prompt_encoder["default"].embedding.weight.data.mul_(0.02)  # begins as a whisper, so that the base still speaks
        return tuned
    for name, parameter in model.named_parameters():
        words = part == "router" and "word_embeddings" in name  # half of the encoder, and a small set of rows knows few of them
        parameter.requires_grad_(method == "full" and _moves(name, frozen) and not words)
    return model


def go_on(tuned: Any, recipe: PartRecipe, adapter: Path) -> None:
    """Put the values of a LoRA folder in place of the fresh ones, so that training goes on from it.

    Raises DataError unless it adapts the same layers by the same rank.
    """
    import torch
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    file = adapter / "adapter_model.safetensors"
    if recipe.method not in ("lora", "rslora") or not file.is_file():
        raise DataError(f"Training goes on from LoRA adapters alone, and {adapter} is none or the method is {recipe.method!r}; "
                        "raise `above` of [replay], so that it begins at the base.")
    found = {name: torch.from_numpy(value) for name, value in weights.read(file).items()}
    wanted = get_peft_model_state_dict(tuned)
    if {name: value.shape for name, value in found.items()} != {name: value.shape for name, value in wanted.items()}:
        raise DataError(f"{adapter} adapts other layers or has another rank than the recipe; take its rank and frozen_layers, "
                        "or raise `above` of [replay], so that training begins at the base.")
    set_peft_model_state_dict(tuned, found)


def _moves(name: str, frozen: int) -> bool:
    layer = re.search(r"\blayers?\.(\d+)\.", name)
    if layer:
        return int(layer[1]) >= frozen
    return not frozen or "embed" not in name


def _set_dropout(model: Any, share: float, attention: bool) -> None:
    """On the layers that the base has for it; `attention`: on attention weights of a decoder, which has no such layers."""
    import torch

    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = share
        elif attention and isinstance(getattr(module, "attention_dropout", None), float):
            module.attention_dropout = share


def base_of(model: Any) -> Any:
    """The base model inside a PEFT model, with what is injected into its layers; any other model as it is."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def prefix_of(model: Any, rows: int) -> Any:
    """The cache that a tuned prefix begins with, for `rows` sequences; None where the method has none."""
    tuned = getattr(model, "active_peft_config", None)
    return model.get_prompt(rows) if tuned is not None and tuned.is_prompt_learning else None


def penalty(model: Any) -> Any:
    """AdaLoRA's price on vectors that are not orthogonal (Zhang et al., 2023); 0.0 for other methods."""
    import torch

    if (tuner := _adalora(model)) is None:
        return 0.0
    off = []
    for name, value in tuner.model.named_parameters():
        if "lora_A" in name or "lora_B" in name:
            product = value @ value.T if "lora_A" in name else value.T @ value
            off.append(torch.linalg.norm(product - torch.eye(len(product), device=product.device)))
    return tuner.peft_config["default"].orth_reg_weight * torch.stack(off).mean()


def allocate(model: Any, step: int) -> None:
    """AdaLoRA deals out its ranks after a step of the optimiser (counted from 1), before gradients are cleared."""
    if (tuner := _adalora(model)) is not None:
        tuner.update_and_allocate(step)


def allocator(model: Any) -> dict[str, Any]:
    """AdaLoRA's memory of what mattered, as tensors by name; empty for other methods."""
    import torch

    if (tuner := _adalora(model)) is None:
        return {}
    said = {f"{kind}.{name}": value for kind in ("ipt", "exp_avg_ipt", "exp_avg_unc")
            for name, value in getattr(tuner.rankallocator, kind).items()}
    pattern = tuner.peft_config["default"].rank_pattern or {}
    return said | {f"rank_pattern.{name}": torch.as_tensor(kept) for name, kept in pattern.items()}


def set_allocator(model: Any, values: dict[str, Any]) -> None:
    """Puts back what `allocator` gave."""
    if (tuner := _adalora(model)) is None:
        return
    tables: dict[str, dict[str, Any]] = {"ipt": {}, "exp_avg_ipt": {}, "exp_avg_unc": {}, "rank_pattern": {}}
    for key, value in values.items():
        kind, _, name = key.partition(".")
        tables[kind][name] = value.tolist() if kind == "rank_pattern" else value
    tuner.peft_config["default"].rank_pattern = tables.pop("rank_pattern") or None
    for kind, table in tables.items():
        setattr(tuner.rankallocator, kind, table)


def _adalora(model: Any) -> Any:
    tuner = getattr(model, "base_model", None)
    return tuner if hasattr(tuner, "rankallocator") else None


def save(model: Any, recipe: PartRecipe, base_file: Path, out: Path) -> None:
    """Write what was tuned to the folder `out`, which is empty afterwards if the head alone was. May merge the model.

    LoRA folders for lora, rslora and adalora, a PEFT folder for prefix, else the tensors that differ from `base_file`.
    Raises DataError if a value is not finite, StoreError if the disk is full.
    """
    with writing(out):
        if recipe.method in ("lora", "rslora", "prefix"):
            save_adapter(model, out)
        elif recipe.method == "adalora":
            save_adapter(model, out, *_as_lora(model))
        else:
            whole = model.merge_and_unload() if recipe.method == "ia3" else model
            _save_changed(whole.state_dict(), weights.read(base_file), out)


def _as_lora(model: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """(tensors, config) of the LoRA adapter that equals an AdaLoRA: W + s B diag(E) A, s and E taken into A.

    Every layer gets the rank of the richest one, filled up with zeros, as vLLM wants one rank.
    """
    import torch

    layers = {name: layer for name, layer in model.named_modules() if hasattr(layer, "lora_E")}
    kept = {name: layer.lora_E["default"][:, 0] != 0 for name, layer in layers.items()}
    rank = max(1, *(int(rows.sum()) for rows in kept.values()))
    tensors = {}
    for name, layer in layers.items():
        scale = layer.scaling["default"] / (layer.ranknum["default"] + 1e-5)
        down = (layer.lora_A["default"] * layer.lora_E["default"] * scale)[kept[name]]
        up = layer.lora_B["default"][:, kept[name]]
        empty = rank - len(down)
        tensors[f"{name}.lora_A.weight"] = torch.cat([down, down.new_zeros(empty, down.shape[1])])
        tensors[f"{name}.lora_B.weight"] = torch.cat([up, up.new_zeros(len(up), empty)], dim=1)
    from peft import LoraConfig

    old = model.peft_config["default"]
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=old.target_modules, bias="none", task_type=old.task_type,
                        layers_to_transform=old.layers_to_transform)
    return tensors, config.to_dict()


def _save_changed(state: dict[str, Any], base: weights.Weights, out: Path) -> None:
    from safetensors.numpy import save_file

    shutil.rmtree(out, ignore_errors=True)
    changed = {}
    for name, old in base.items():
        if name not in state or old.dtype.kind != "f":
            continue
        new = state[name].detach().cpu().float().numpy()
        if not np.array_equal(new, old):
            with np.errstate(over="ignore"):
                changed[name] = new.astype(np.float16)
            if not np.isfinite(changed[name]).all():
                raise DataError(f"Training left values in {name} that are not finite in half precision; lower learning_rate.")
    if changed:
        out.mkdir(parents=True)
        save_file(changed, out / weights.REPLACED)


@contextmanager
def writing(out: Path) -> Iterator[None]:
    """A full disk while a trained part is written becomes a StoreError with a remedy."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError) as error:
        raise StoreError(f"The trained part cannot be written to {out} ({error}); nothing was published. Make room on the "
                         "disk and run it again.") from error
