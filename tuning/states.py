"""The trainer's states on disk: whole or not there, of one run alone, with the best epoch so far in them.

Knows folders and tensors by name, nothing about what is trained.
"""

import json
import math
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.errors import StoreError

FILE = "tuned.safetensors"


@dataclass(slots=True)
class Progress:
    """How far a run is; saved with every state."""

    best: float = math.inf
    """The least held-out loss."""
    worse: int = 0
    """Epochs since then."""
    finished: bool = False
    done: int = 0
    """Steps."""
    loss: float = math.nan
    """Of the last step."""
    kept: dict[str, Any] = field(default_factory=dict)
    """What moved, as it was at the best epoch; empty before the first that gave a number."""

    def keep(self, net: Any) -> None:
        """What moves in `net` is the best so far."""
        self.kept = {name: value.detach().cpu().clone() for name, value in moving(net)}

    def write(self, folder: Path, net: Any, more: dict[str, Any]) -> None:
        """Into a state's folder, with what moves in `net` now and `more` tensors of the method's own."""
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        groups = {"now": dict(moving(net)), "best": self.kept, "more": more}
        save_file({f"{group}.{name}": value.detach().cpu().contiguous() for group, values in groups.items()
                   for name, value in values.items()}, folder / FILE)
        table = {"best": self.best, "worse": self.worse, "finished": self.finished, "done": self.done, "loss": self.loss}
        (folder / "progress.json").write_text(json.dumps(table), encoding="utf-8")

    def read(self, folder: Path) -> None:
        """Back from a state's folder."""
        table = json.loads((folder / "progress.json").read_text(encoding="utf-8"))
        for name, value in table.items():
            setattr(self, name, value)
        self.kept = tensors(folder, "best")


def moving(net: Any) -> Iterator[tuple[str, Any]]:
    """What training moves, by name."""
    return ((name, value) for name, value in net.named_parameters() if value.requires_grad)


def put(net: Any, values: dict[str, Any]) -> None:
    """Give what moves in `net` the values of the same names."""
    import torch

    with torch.no_grad():
        for name, parameter in moving(net):
            parameter.copy_(values[name])


def tensors(folder: Path, group: str) -> dict[str, Any]:
    """The tensors of a state: `now`, `best` or `more`."""
    from safetensors.torch import load_file

    return {name.removeprefix(f"{group}."): value for name, value in load_file(folder / FILE).items()
            if name.startswith(f"{group}.")}


def scratch(folder: Path) -> Path:
    """Where a state is written before it counts."""
    return folder / ".writing"


def publish(folder: Path, step: int, write: Callable[[], None]) -> None:
    """`write` makes the state in the scratch folder; it counts once it is whole and on the disk. Older ones go then.

    Raises StoreError if the disk is full.
    """
    from safetensors import SafetensorError

    made, target = scratch(folder) / f"checkpoint-{step}", folder / f"checkpoint-{step}"
    shutil.rmtree(scratch(folder), ignore_errors=True)
    try:
        write()
        for path in made.iterdir():
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
        shutil.rmtree(target, ignore_errors=True)
        os.replace(made, target)
    except (OSError, RuntimeError, SafetensorError) as error:  # torch and safetensors have words of their own for a full disk
        raise StoreError(f"The state of training cannot be written to {folder} ({error}); make room on the disk and run it "
                         "again: it goes on from the last whole state.") from error
    for old in folder.glob("checkpoint-*"):
        if old != target:
            shutil.rmtree(old)


def last(folder: Path, key: str) -> Path | None:
    """The last whole state of the run that `key` names; what other runs left in the folder is removed."""
    file = folder / "run.json"
    if not file.is_file() or file.read_text(encoding="utf-8") != json.dumps({"run": key}):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        file.write_text(json.dumps({"run": key}), encoding="utf-8")
    found = {int(path.name.partition("-")[2]): path for path in folder.glob("checkpoint-*")}
    return found[max(found)] if found else None
