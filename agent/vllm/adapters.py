"""A bundle's generator as vLLM servers load it: a folder of its own under a name that never means anything else.

What vLLM would refuse, or take without a word and answer nonsense with, is refused here first. Knows PEFT's files and the
rules of vLLM's loader; nothing about servers.
"""

import hashlib
import json
import math
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from agent import paths, prompt, weights
from agent.aliases import sync
from agent.bundle import Bundle
from agent.domain import Domain
from agent.errors import BundleError
from agent.models import BaseModel, sha256
from agent.settings import Settings
from agent.types import Message
from agent.vllm import canary
from agent.vllm.canary import Probe

CANARY = "canary.json"  # written last, so its existence means the folder is whole
FILES = ("adapter_config.json", "adapter_model.safetensors")
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # that vLLM can be started with
REFUSED = {"use_dora": "DoRA", "lora_bias": "a bias", "modules_to_save": "whole layers (modules_to_save)",
           "layer_replication": "replicated layers", "alora_invocation_tokens": "activated LoRA", "use_qalora": "QALoRA",
           "fan_in_fan_out": "transposed layers", "use_bdlora": "block-diagonal LoRA", "target_parameters": "tuned parameters",
           "trainable_token_indices": "tuned tokens", "rank_pattern": "ranks that differ between layers",
           "alpha_pattern": "scales that differ between layers"}
BEFORE, AFTER = "base_model.model.", ("lora_A.weight", "lora_B.weight")  # of a tensor's name
STARTS = ("gaussian", "eva", "orthogonal", "mica", "lora_ga")  # ways to begin that leave the base as it is


@dataclass(frozen=True, slots=True)
class Adapter:
    """What a server is asked to serve; `folder` and `name` are empty for the plain base."""

    name: str
    """`finance@0007-1a2b3c4d`: the bundle, and the beginning of its generator's hash."""
    folder: Path | None
    base: BaseModel
    rank: int
    probes: tuple[Probe, ...]


def export(bundle: Bundle, domain: Domain, base: BaseModel, settings: Settings) -> Adapter:
    """The bundle's adapter in a folder that stays as long as a server may want it; made at the first call.

    Raises BundleError if vLLM cannot serve it.
    """
    root = paths.vllm(settings.home) / "adapters"
    root.mkdir(parents=True, exist_ok=True)
    part = bundle.part("generator")
    name = adapter_name(bundle) if part else f"base-{base.fingerprint[:8]}-{domain.name}"
    prompts = [prompt.render(domain, [prompt.fact(told.title, told.heading, told.text)], (), f"{told.heading}?")
               for told in domain.passages[:1]]
    prompts += [prompt.render(domain, [], (), question) for question in (domain.examples or (domain.title,))[:1]]
    with FileLock(root / f"{name}.lock"):
        if not _whole(root / name, bundle):
            if part:
                check(part, base)
            _publish(part, _expected(part, base, prompts, settings, bundle.part_hash("generator")), root / name)
    probes = _probes(root / name / CANARY)
    return Adapter(name, root / name, base, rank(part), probes) if part else Adapter("", None, base, 0, probes)


def _expected(part: Path | None, base: BaseModel, prompts: list[list[Message]], settings: Settings, weights: str) -> list[Probe]:
    """As the reference engine says; versions that share a generator, and ask alike, share what was computed."""
    asked = json.dumps([weights, base.fingerprint, prompts, canary.TOKENS, canary.BEGUN, canary.MARGIN])
    kept = paths.vllm(settings.home) / "expected" / f"{hashlib.sha256(asked.encode()).hexdigest()[:32]}.json"
    if not kept.is_file():
        told = json.dumps([asdict(probe) for probe in canary.expect(base, part, prompts, settings.cores)])
        kept.parent.mkdir(parents=True, exist_ok=True)
        scratch = kept.with_name(f".{kept.name}.{os.getpid()}")
        scratch.write_text(told, encoding="utf-8")
        os.replace(scratch, kept)
    return list(_probes(kept))


def _probes(file: Path) -> tuple[Probe, ...]:
    rows = json.loads(file.read_text(encoding="utf-8"))
    return tuple(Probe(**row | {"plain": tuple(row["plain"])}) for row in rows)


def adapter_name(bundle: Bundle) -> str:
    """`finance@0007-1a2b3c4d`: what servers call the bundle's adapter."""
    return f"{bundle.name}-{bundle.part_hash('generator')[:8]}"


def rank(part: Path) -> int:
    """The largest rank in a LoRA folder."""
    if type(said := _config(part).get("r")) is not int or said < 1:  # true is an int too
        raise BundleError(f"{part / FILES[0]} gives {said!r} as its rank; restore it or choose another version.")
    return said


def check(part: Path, base: BaseModel) -> None:
    """Raise BundleError, with the next step, unless vLLM can serve this part beside the base as it is."""
    other = "train with method lora or rslora, or set engine = 'onnx' to answer in process."
    if (part / weights.REPLACED).is_file():
        raise BundleError(f"{part} holds tuned weights in full, and vLLM serves LoRA adapters alone; {other}")
    config = _config(part)
    if (kind := str(config.get("peft_type", "lora")).lower()) != "lora":
        raise BundleError(f"{part} was tuned by {kind}, and vLLM serves LoRA adapters alone; {other}")
    for key, what in REFUSED.items():
        if config.get(key):
            raise BundleError(f"{part} has {what}, which vLLM does not serve; {other}")
    if config.get("bias", "none") != "none":
        raise BundleError(f"{part} has a bias, which vLLM does not serve; {other}")
    if isinstance(start := config.get("init_lora_weights"), str) and start.lower() not in STARTS:
        raise BundleError(f"{part} began by {start}, which changes the base too; {other}")
    if rank(part) > RANKS[-1]:
        raise BundleError(f"{part} has rank {rank(part)} and vLLM serves at most {RANKS[-1]}; {other}")
    _check_scale(part, config)
    _check_layers(part, base)


def _check_scale(part: Path, config: dict[str, Any]) -> None:
    """What vLLM and PEFT read beside the rank: a scale that is a number, and names of layers."""
    alpha, layers = config.get("lora_alpha"), config.get("target_modules")
    if type(alpha) not in (int, float) or not math.isfinite(alpha) or alpha <= 0:
        raise BundleError(f"{part / FILES[0]} gives {alpha!r} as lora_alpha; restore it or choose another version.")
    named = layers if isinstance(layers, list) else [layers]
    if not layers or not all(isinstance(one, str) for one in named):
        raise BundleError(f"{part / FILES[0]} does not name its layers (target_modules); restore it or choose another version.")


def _check_layers(part: Path, base: BaseModel) -> None:
    """Names, shapes and values: vLLM takes another rank than the one that is written, layers that the base lacks, and NaN."""
    low_rank, wanted = weights.read(part / FILES[1]), rank(part)
    pairs = _pairs(low_rank)
    odd = [key for key in low_rank if not key.startswith(BEFORE) or not key.endswith(AFTER)
           or key.replace("lora_A", "lora_?").replace("lora_B", "lora_?") not in pairs]
    if odd or not low_rank:
        raise BundleError(f"{part} holds {(odd or ['nothing'])[0]}, which is no whole LoRA layer; restore it or choose another "
                          "version.")
    for key, array in low_rank.items():
        if array.ndim != 2 or array.dtype != np.float32 or array.shape[key.endswith("lora_B.weight")] != wanted:
            raise BundleError(f"{part}: {key} is {array.dtype} of shape {list(array.shape)}, where rank {wanted} is written in "
                              f"{FILES[0]}; restore it or choose another version.")
    plain = weights.read(base.path / "model.safetensors")
    with np.errstate(all="ignore"):
        merged = weights.merge(plain, part)
    for key, array in merged.items():
        if array is not plain[key] and not np.isfinite(array).all():
            raise BundleError(f"{part} makes values of {key} that are not finite; choose another version.")


def _pairs(low_rank: weights.Weights) -> set[str]:
    """Names, with a ? for A and B, of layers that have both."""
    return {key.replace("lora_A", "lora_?") for key in low_rank if key.replace("lora_A", "lora_B") in low_rank}


def _config(part: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((part / FILES[0]).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise BundleError(f"{part} holds no whole adapter ({error}); restore it or choose another version.") from error


def _whole(folder: Path, bundle: Bundle) -> bool:
    """Whether an export is there and its files are those of the bundle still."""
    copied = {file: bundle.manifest["files"].get(f"generator/{file}") for file in FILES} if bundle.part("generator") else {}
    return (folder / CANARY).is_file() and all((folder / file).is_file() and sha256(folder / file) == digest
                                               for file, digest in copied.items())


def _publish(part: Path | None, probes: Sequence[Probe], target: Path) -> None:
    """Whole and on the disk before it bears its name."""
    scratch = target.with_name(f".{target.name}.new")
    shutil.rmtree(scratch, ignore_errors=True)  # of one who died
    scratch.mkdir()
    for file in FILES if part else ():
        shutil.copyfile(part / file, scratch / file)
    (scratch / CANARY).write_text(json.dumps([asdict(probe) for probe in probes]), encoding="utf-8")
    for path in (*scratch.iterdir(), scratch):
        sync(path)
    shutil.rmtree(target, ignore_errors=True)  # an unfinished one of an earlier kind
    os.replace(scratch, target)
    sync(target.parent)
