"""Answers of a generator to many prompts, written once: greedy answers are a function of weights and prompts.

Knows bases, adapters and files of answers; it does not know what is asked nor what is right.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from agent.models import BaseModel, sha256
from agent.settings import Settings
from agent.types import Message

WRITERS = ("batch", "onnx")
"""`batch`: transformers, many prompts at once. `onnx`: the engine that serves on a CPU, one prompt after the other."""


def fingerprint(folder: Path | None) -> str:
    """sha256 over names and contents of a folder's files; empty for no folder. The same weights give the same one."""
    if folder is None:
        return ""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    told = [(file.relative_to(folder).as_posix(), sha256(file)) for file in files]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def answers(base: BaseModel, adapter: Path | None, prompts: Sequence[list[Message]], settings: Settings, *,
            writer: str = "batch", name: str = "generator", say: Callable[[str], None] = lambda line: None) -> list[str]:
    """One answer a prompt, from the home's folder `answers` if these weights have seen these prompts before.

    `say` hears how far it is, under `name`. A kill in between costs this list of answers and harms nothing.
    """
    assert writer in WRITERS, f"writer is {writer!r}"
    key = [base.fingerprint, fingerprint(adapter), list(prompts), settings.max_new_tokens, writer]
    file = settings.home / "answers" / f"{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:32]}.json"
    if file.is_file():
        return json.loads(file.read_text(encoding="utf-8"))
    said = [""] * len(prompts)
    for done, (i, text) in enumerate(_WRITE[writer](base, adapter, prompts, settings), start=1):
        said[i] = text
        if done % 16 == 0 or done == len(prompts):
            say(f"{name}: {done} of {len(prompts)}")
    file.parent.mkdir(parents=True, exist_ok=True)
    scratch = file.with_suffix(".tmp")
    scratch.write_text(json.dumps(said), encoding="utf-8")
    scratch.replace(file)
    return said


def _batch(base: BaseModel, adapter: Path | None, prompts: Sequence[list[Message]],
           settings: Settings) -> Iterator[tuple[int, str]]:
    from tuning.batch import BatchWriter

    yield from BatchWriter(base, adapter, settings.cores).write(prompts, settings.max_new_tokens)


def _onnx(base: BaseModel, adapter: Path | None, prompts: Sequence[list[Message]],
          settings: Settings) -> Iterator[tuple[int, str]]:
    """Prompts that begin alike follow one another: what they share is computed once."""
    from agent.generators.local import LocalGenerator

    generator = LocalGenerator(base, adapter, settings)
    for i in sorted(range(len(prompts)), key=lambda i: json.dumps(prompts[i])):
        yield i, generator.write(prompts[i], settings.max_new_tokens).strip()


_WRITE = {"batch": _batch, "onnx": _onnx}
