"""What the server that Retune runs is: its command line and environment, from settings, bundles and machine.

Loopback only, and the key goes by the environment, never by the command line or the log. Starts nothing.
"""

import json
import os
import re
import secrets
import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agent import paths
from agent.domain import shipped
from agent.models import BaseModel
from agent.settings import Settings
from agent.vllm.install import Installed, NoServer
from agent.vllm.running import Running

RANKS = (16, 32, 64, 128, 256, 320, 512)  # that vLLM takes; slots are as wide as the widest, whatever is in them
CPU_TOKENS = 2048  # prompt and answer, on a CPU
CPU_CACHE_GB = "2"
HOST = "127.0.0.1"
OURS = ("host", "port", "uds", "model", "served-model-name", "api-key", "config")  # said once, by us


@dataclass(frozen=True, slots=True)
class Options:
    """What a person may say about the server; 0: as the bundles and the machine need it."""

    port: int = 0
    rank: int = 0
    slots: int = 0
    max_model_len: int = 0
    extra: tuple[str, ...] = ()
    """Options for vLLM as they are."""


def plan(settings: Settings, installed: Installed, base: BaseModel, options: Options) -> Running:
    """The server as it will be run, with a key of its own."""
    port = _port(options.port)
    flags = needed(settings, installed.cpu, base, options)
    command = [str(installed.python), "-m", "vllm.entrypoints.openai.api_server", "--host", HOST, "--port", str(port),
               "--model", str(base.path), "--served-model-name", settings.generator, *_words(flags), *_passed(options.extra)]
    return Running(url=f"http://{HOST}:{port}", key=secrets.token_urlsafe(32), base=settings.generator, model=str(base.path),
                   flags=flags, extra=list(options.extra), command=command, environment=_environment(settings, installed),
                   started=datetime.now(UTC).isoformat(timespec="seconds"))


def ranks(home: Path) -> dict[str, int]:
    """Domain -> the widest LoRA among its bundles, for every domain that ships or has bundles of its own here."""
    found = dict.fromkeys(shipped(), 0)
    starters = ((name, paths.DOMAINS / name / "models" / "generator" / "adapter_config.json") for name in shipped())
    made = ((file.parts[-4], file) for file in paths.registry(home).glob("*/*/generator/adapter_config.json"))
    for name, file in (*starters, *made):
        with suppress(OSError, ValueError, TypeError, AttributeError):  # a damaged bundle is the registry's business
            said = json.loads(file.read_text(encoding="utf-8"))
            widest = max([int(said.get("r") or 0), *map(int, (said.get("rank_pattern") or {}).values())])
            found[name] = max(found.get(name, 0), widest)
    return found


def needed(settings: Settings, cpu: bool, base: BaseModel, options: Options) -> dict[str, Any]:
    """vLLM's options for these bundles, this base and this machine."""
    needs = ranks(settings.home)
    widest = max(needs.values(), default=0)
    rank = options.rank or next((rank for rank in RANKS if rank >= widest), RANKS[-1])
    if rank not in (1, 8, *RANKS):
        raise NoServer(f"vLLM takes no rank {rank}; use one of {', '.join(map(str, RANKS))}.")
    slots = options.slots or max(3, len(needs) + 2)  # a champion each, and one on trial, and one that still answers
    flags: dict[str, Any] = {"enable-lora": True, "max-loras": slots, "max-cpu-loras": 2 * slots, "max-lora-rank": rank}
    if options.max_model_len:
        flags["max-model-len"] = options.max_model_len
    elif cpu:
        flags["max-model-len"] = min(CPU_TOKENS, _longest(base) or CPU_TOKENS)
    if cpu:
        flags["enforce-eager"] = True
        if not _has_bf16():
            flags["dtype"] = "float32"
    return flags


def _words(flags: dict[str, Any]) -> list[str]:
    return [word for name, value in flags.items() for word in ([f"--{name}"] if value is True else [f"--{name}", str(value)])]


def _passed(extra: Sequence[str]) -> Sequence[str]:
    """Refuses what would open the server, or say twice what we say; vLLM takes shortened names too."""
    for word in extra:
        name = word.partition("=")[0].lstrip("-").replace("_", "-")
        if word.startswith("--") and len(name) > 1 and any(own.startswith(name) for own in OURS):
            raise NoServer(f"{word} is not handed on: address, key and model are Retune's (--port, and the setting generator).")
    return extra


def _environment(settings: Settings, installed: Installed) -> dict[str, str]:
    told = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1", "VLLM_PLUGINS": ",".join(installed.plugins), "HF_HUB_OFFLINE": "1",
            "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "PYTHONUNBUFFERED": "1"}
    if installed.cpu:
        told["VLLM_CPU_KVCACHE_SPACE"] = os.environ.get("VLLM_CPU_KVCACHE_SPACE") or CPU_CACHE_GB
        # By itself vLLM binds a thread to each core but one, which stays for the agent. More threads than cores that are free
        # wait for each other: on two busy cores two unbound ones made a single answer half as fast as one bound one.
        if settings.threads:
            told |= {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": str(settings.threads)}
    return told


def _port(asked: int) -> int:
    """That one if it is free, for 0 any free one."""
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((HOST, asked))
            return trial.getsockname()[1]
        except (OSError, OverflowError) as error:
            raise NoServer(f"Port {asked} cannot be had ({error.args[-1]}); `retune vllm up --port 0` takes a free "
                           "one.") from error


def _longest(base: BaseModel) -> int:
    with suppress(OSError, ValueError, AttributeError, TypeError):
        return int(json.loads((base.path / "config.json").read_text(encoding="utf-8")).get("max_position_embeddings") or 0)
    return 0


def _has_bf16() -> bool:
    """Whether this CPU multiplies bfloat16 by itself; one that does not is faster with float32."""
    try:
        told = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return True
    return not re.search(r"^flags\s*:", told, re.M) or bool(re.search(r"\b(avx512_bf16|amx_bf16)\b", told))
