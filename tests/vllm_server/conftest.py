"""One real vLLM server for all tests here, in a home of its own. `make test-vllm` runs them; `make test` does not."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent import paths
from agent.agent import Agent
from agent.settings import Settings

DEFAULT_HOME = paths.default_home()  # of the person who runs the tests, before RETUNE_HOME moves
INSTALLED = os.environ.get("RETUNE_VLLM_PYTHON") or str(paths.vllm_environment(DEFAULT_HOME) / "bin" / "python")


@dataclass(frozen=True, slots=True)
class Place:
    """A home whose server runs."""

    home: Path
    url: str
    key: str

    def settings(self, **more: object) -> Settings:
        """Settings that answer by the server."""
        return Settings.load(**{"home": self.home, "engine": "vllm", "vllm_python": INSTALLED} | more)

    def agent(self, domain: str | Path, **more: object) -> Agent:
        """An agent on the server."""
        return Agent.load(domain, **{"home": self.home, "engine": "vllm"} | more)

    def retune(self, *words: str, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        """The command, as a person runs it."""
        said = os.environ | {"RETUNE_HOME": str(self.home), "RETUNE_ENGINE": "vllm", "RETUNE_VLLM_PYTHON": INSTALLED} | environment
        return subprocess.run([sys.executable, "-m", "agent.surfaces.cli", *words], input=stdin, capture_output=True, text=True,
                              env=said, timeout=400)


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory, real_models: Path) -> Iterator[Place]:
    """A server with rank 16, up for the whole run; put down at the end."""
    home = tmp_path_factory.mktemp("served")
    os.symlink(real_models, home / "models", target_is_directory=True)
    before = Place(home, "", "")
    came = before.retune("vllm", "up", "--port", "0", "--rank", "16")
    assert came.returncode == 0, came.stderr + came.stdout
    try:
        server = local_server(home)
        yield Place(home, *server)
    finally:
        assert before.retune("vllm", "down").returncode == 0


def local_server(home: Path) -> Sequence[str]:
    """URL and key of the server that runs in a home."""
    from agent.vllm import fleet

    found = fleet.servers(Settings.load(home=home, engine="vllm"))
    return found[0].url, found[0].key
