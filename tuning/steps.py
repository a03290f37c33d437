"""What both trainers share: the steps that they yield, the device, and how an adapter is written."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class TrainStep:
    """Progress of training; losses in nats."""

    stage: str
    """router or generator."""
    epoch: int
    done: int
    total: int
    loss: float
    held_out: float | None = None
    """Set once an epoch."""


@dataclass(frozen=True, slots=True)
class Note:
    """Something that a person should know about the run, in one sentence."""

    text: str


def device_of(torch: Any) -> str:
    """cuda where there is one, else cpu."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def save_adapter(model: Any, out: Path) -> None:
    """Write a PEFT adapter (safetensors, half precision) to a fresh folder; nothing names the machine's paths."""
    import json

    import numpy as np
    from peft import get_peft_model_state_dict
    from safetensors.numpy import save_file

    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    state = get_peft_model_state_dict(model)
    save_file({name: value.detach().cpu().float().numpy().astype(np.float16) for name, value in state.items()},
              out / "adapter_model.safetensors")
    config = model.peft_config["default"].to_dict()
    config["base_model_name_or_path"] = ""  # the manifest names the base by fingerprint
    config["target_modules"] = sorted(config["target_modules"])
    config["inference_mode"] = True
    (out / "adapter_config.json").write_text(json.dumps(config, indent=1, sort_keys=True, default=str), encoding="utf-8")
