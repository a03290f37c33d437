"""What both trainers share: the steps that they yield, the thread behind them, the device, how an adapter is written."""

import queue
import shutil
import threading
from collections.abc import Callable, Iterator
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


class Stopped(Exception):
    """Nobody asks for further steps."""


def in_steps(work: Callable[[Callable[[Any], None]], None]) -> Iterator[Any]:
    """Run work(tell) in a thread and yield what it tells; it waits at each until the next is asked for.

    Closing the generator raises Stopped at the next tell; an error of work is raised here.
    """
    told: queue.Queue[tuple[str, Any]] = queue.Queue()
    asked, closed = threading.Semaphore(0), threading.Event()

    def tell(item: Any) -> None:
        told.put(("step", item))
        asked.acquire()
        if closed.is_set():
            raise Stopped

    def run() -> None:
        try:
            work(tell)
            told.put(("end", None))
        except Stopped:
            pass
        except BaseException as error:  # handed to the waiting side, which raises it
            told.put(("error", error))

    thread = threading.Thread(target=run, name="train", daemon=True)
    thread.start()
    try:
        while (said := told.get())[0] == "step":
            yield said[1]
            asked.release()
        if said[0] == "error":
            raise said[1]
    finally:
        closed.set()
        asked.release()
        thread.join()


def device_of(torch: Any) -> str:
    """cuda where there is one, else cpu."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def save_adapter(model: Any, out: Path, tensors: dict[str, Any] | None = None, config: dict[str, Any] | None = None) -> None:
    """Write a PEFT adapter (safetensors, half precision) to a fresh folder; nothing names the machine's paths.

    `tensors`, `config`: what is written in place of the model's own, where it was trained in another form.
    """
    import json

    import numpy as np
    from peft import get_peft_model_state_dict
    from safetensors.numpy import save_file

    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    state = tensors or get_peft_model_state_dict(model)
    save_file({name: value.detach().cpu().float().numpy().astype(np.float16) for name, value in state.items()},
              out / "adapter_model.safetensors")
    config = dict(config or model.peft_config["default"].to_dict())
    config["base_model_name_or_path"] = ""  # the manifest names the base by fingerprint
    if config.get("target_modules"):
        config["target_modules"] = sorted(config["target_modules"])
    config["inference_mode"] = True
    (out / "adapter_config.json").write_text(json.dumps(config, indent=1, sort_keys=True, default=str), encoding="utf-8")
