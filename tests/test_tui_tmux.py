"""The app in tmux on the embedded models, by keys and what the screen says; the screens stand in the tests' output."""

import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from agent.domain import Domain
from agent.registry import MANIFEST, Registry
from agent.settings import Settings
from agent.store import Store

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed; `apt-get install tmux` has it")


class Tmux:
    """One session of a tmux server of its own; `says` waits for words, `screen` is what a person sees."""

    def __init__(self, socket: Path, command: str, size: tuple[int, int]) -> None:
        self.tmux = ["tmux", "-S", str(socket), "-f", "/dev/null"]
        self.run("new-session", "-d", "-x", str(size[0]), "-y", str(size[1]), command)

    def run(self, *words: str) -> str:
        """One command of tmux."""
        return subprocess.run([*self.tmux, *words], check=True, capture_output=True, text=True).stdout

    @property
    def screen(self) -> str:
        """As lines."""
        return self.run("capture-pane", "-p")

    def says(self, *words: str, seconds: float = 120) -> str:
        """Wait until the screen shows all the words; that screen."""
        end = time.monotonic() + seconds
        while not all(word in (now := self.screen) for word in words):
            assert time.monotonic() < end, f"it never said {words}:\n{now}"
            time.sleep(0.1)
        return now

    def keys(self, *keys: str) -> None:
        """Press keys, by tmux's names."""
        self.run("send-keys", *keys)

    def types(self, text: str) -> None:
        """Letter by letter."""
        self.run("send-keys", "-l", text)

    @property
    def over(self) -> bool:
        """Whether the app has ended."""
        return subprocess.run([*self.tmux, "has-session"], capture_output=True).returncode != 0


def leave(terminal: Tmux, screens: dict[str, str]) -> None:
    """End the app as a person does; print what was seen of it."""
    terminal.keys("C-q")
    end = time.monotonic() + 30
    while not terminal.over:
        assert time.monotonic() < end, f"it did not end:\n{terminal.screen}"
        time.sleep(0.1)
    for name, screen in screens.items():
        print(f"\n--- {name} " + "-" * (88 - len(name)), screen.rstrip(), sep="\n")


@pytest.fixture
def second(settings: Settings, tmp_path: Path) -> Registry:
    """A second bundle, as a retraining leaves it that the gate was content with; the shipped one is champion."""
    registry, built = Registry(Domain.load("customer_service"), settings.home), tmp_path / "built"
    first = registry.get()
    shutil.copytree(first.path, built, ignore=shutil.ignore_patterns(MANIFEST))
    told = {name: value for name, value in first.manifest.items() if name != "files"}
    why = "router: better by at least 2 points."
    registry.publish(built, told | {"parent": first.name, "verdict": {"decision": "promote", "why": why, "slice": None}})
    return registry


@pytest.fixture
def terminal(settings: Settings, tmp_path: Path) -> Iterator[Tmux]:
    """`retune chat customer_service` as a person starts it."""
    words = [sys.executable, "-m", "agent.surfaces.cli", "chat", "customer_service"]
    environment = [f"RETUNE_HOME={settings.home}", f"PYTHONPATH={ROOT}", "TERM=screen-256color"]
    command = shlex.join(["env", "-u", "COLUMNS", "-u", "LINES", *environment, *words])
    opened = Tmux(tmp_path / "tmux", command, (100, 30))
    yield opened
    if not opened.over:
        opened.run("kill-server")


def test_a_first_conversation_on_the_embedded_models_is_answered_rated_explained_and_left(terminal: Tmux, settings: Settings):
    screens = {"the first start": terminal.says("Welcome to Retune", "Enter begin")}
    terminal.keys("Enter")
    terminal.says("ready: customer_service@0001", seconds=300)
    terminal.types("How long may I return an item?")
    terminal.keys("Enter")
    screens["an answer"] = terminal.says("days", "· answered · customer_service@0001", "Ctrl+↑ Rate")
    terminal.keys("C-Up")
    terminal.says("+ Good")
    terminal.types("+")
    screens["it is rated"] = terminal.says("✓ Good. Once reviewed, this answer is trained on.")
    terminal.keys("F2")
    screens["why"] = terminal.says("return policy", "Returns", "customer_service@0001")
    leave(terminal, screens)
    with closing(Store(Settings.load(home=settings.home).database_url)) as store:
        store.open()
        turn = store.last_turn(store.sessions()[0]["id"])
        assert turn["question"] == "How long may I return an item?" and "days" in turn["reply"] and turn["passages"]
        assert [row["kind"] for row in store.feedback_of(turn["id"])] == ["up"]


def test_what_is_promoted_answers_next_and_what_is_rolled_back_does_no_longer(second: Registry, terminal: Tmux):
    screens = {}

    def ask(text: str, answered: str) -> str:
        terminal.types(text)
        terminal.keys("Enter")
        return terminal.says(text, f"· answered · {answered}", "Ctrl+↑ Rate")

    terminal.says("Promote   F4", "Roll back F4", "Enter begin")  # what a newcomer goes by
    terminal.keys("Enter")
    terminal.says("ready: customer_service@0001", "F4 Models", seconds=300)
    terminal.keys("F4")
    screens["the bundles"] = terminal.says("0002", "0001  champion", "The gate says promote", "p Promote", "b Roll back")
    terminal.types("p")
    screens["promote?"] = terminal.says("Promote customer_service@0002?", "in place", "b takes it back", "y do it")
    assert second.aliases() == {"champion": 1}
    terminal.types("y")
    terminal.says("0002  champion", "0001  previous")
    assert second.aliases() == {"champion": 2, "previous": 1}
    terminal.says("customer_service@0002 answers now")
    terminal.keys("Escape")
    terminal.says("Enter Send")
    screens["the new one answers"] = ask("How do I pay?", "customer_service@0002")
    terminal.keys("F4")
    terminal.says("0002  champion", "b Roll back")
    terminal.types("b")
    screens["roll back?"] = terminal.says("Roll back to customer_service@0001?", "y do it")
    terminal.types("y")
    terminal.says("0001  champion", "customer_service@0001 answers now")
    assert second.aliases() == {"champion": 1}
    terminal.keys("Escape")
    terminal.says("Enter Send")
    screens["the old one answers again"] = ask("How long may I return an item?", "customer_service@0001")
    leave(terminal, screens)
