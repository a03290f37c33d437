"""A vLLM server of one's own with adapters, for lora_op.py: started with either op, asked, and stopped."""

import json
import os
import secrets
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SLOTS, RANK = 8, 16  # of the server: adapters at once, and the highest rank


class Server:
    """The OpenAI routes of a server on this machine, as far as they are measured here."""

    def __init__(self, port: int, key: str):
        self.url, self.key = f"http://127.0.0.1:{port}", key

    def _open(self, path: str, body: dict | None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.key}"}
        return urllib.request.urlopen(urllib.request.Request(self.url + path, data, headers), timeout=300)

    def healthy(self) -> bool:
        """Whether it answers."""
        try:
            return self._open("/health", None).status == 200
        except OSError:
            return False

    def load(self, name: str, folder: Path) -> None:
        """Serve an adapter under a name."""
        self._open("/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(folder)}).read()

    def text(self, model: str, prompt: str, count: int) -> str:
        """A greedy answer."""
        told = self._open("/v1/chat/completions", {"model": model, "messages": [{"role": "user", "content": prompt}],
                                                   "max_tokens": count, "temperature": 0})
        return json.load(told)["choices"][0]["message"]["content"]

    def times(self, model: str, ids: list[int], count: int) -> list[float]:
        """Seconds from the asking to each token of a stream."""
        started, seen = time.perf_counter(), []
        body = {"model": model, "prompt": ids, "max_tokens": count, "temperature": 0, "ignore_eos": True, "stream": True}
        for line in self._open("/v1/completions", body):
            if line.startswith(b"data: {"):
                seen.append(time.perf_counter() - started)
        return seen


@contextmanager
def serving(python: str, model: Path, plugin: str, log: Path) -> Iterator[Server]:
    """A server of its own on a free port, both cores its own, stopped at the end with all its processes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    key = secrets.token_urlsafe(16)
    command = [python, "-m", "vllm.entrypoints.openai.api_server", "--host", "127.0.0.1", "--port", str(port),
               "--model", str(model), "--served-model-name", "base", "--dtype", "float32", "--enforce-eager",
               "--max-model-len", "2048", "--enable-lora", "--max-loras", str(SLOTS), "--max-cpu-loras", str(2 * SLOTS),
               "--max-lora-rank", str(RANK)]
    # OpenMP threads that spin while they wait starve each other, and the server's other processes, where cores are few.
    environment = {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_WAIT_POLICY": "passive", "VLLM_CPU_KVCACHE_SPACE": "2",
                   **os.environ, "VLLM_API_KEY": key, "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1", "VLLM_PLUGINS": plugin,
                   "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
    server = Server(port, key)
    with log.open("wb") as out:
        process = subprocess.Popen(command, env=environment, stdout=out, stderr=out, start_new_session=True)
        try:
            deadline = time.monotonic() + 300
            while not server.healthy():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"The server did not start: see {log}\n" + log.read_text(errors="replace")[-2000:])
                time.sleep(0.5)
            if ("segmented products" in log.read_text(errors="replace")) != bool(plugin):
                raise SystemExit(f"The server has not the op that was asked for ({plugin!r}): is this project installed there?")
            yield server
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
