"""The app on a real terminal, with a stub for the model: what a lost one leaves behind, and what opening it costs."""

import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from terminal import Terminal

from agent import paths
from agent.settings import Settings
from agent.store import Store
from agent.surfaces.tui.journal import CUT

TESTS = Path(__file__).parent
CODE = """
import sys
from pathlib import Path
from tui import Typist, app_on
app = app_on(Path(sys.argv[1]), Typist("You have 30 days. Then no more is said of it.", stop_after=8))
try:
    app.run()
finally:
    app.close()
"""


def opened(home: Path) -> Terminal:
    """The app on a terminal of its own, past its first start, with its agent loaded."""
    with closing(Store(Settings.load(home=home).database_url)) as store:
        store.open()
        store.session("before", "customer_service")  # so that it is not the first start
    places = os.pathsep.join((str(TESTS), str(TESTS.parent)))
    terminal = Terminal(["-c", CODE, str(home)], home, environment={"PYTHONPATH": places})
    terminal.shows("customer_service@0001")
    return terminal


def last_turn(home: Path) -> dict[str, Any] | None:
    """Of the conversation that was used last."""
    with closing(Store(Settings.load(home=home).database_url)) as store:
        store.open()
        return store.last_turn(store.sessions()[0]["id"])


@pytest.mark.parametrize("how", ["the terminal is closed", "nobody reads", "SIGHUP", "SIGTERM"])
def test_what_was_said_is_logged_when_the_terminal_or_the_process_is_ended_in_mid_answer(home, how):
    terminal = opened(home)
    terminal.type("How long may I keep it?\r")
    terminal.shows("30 days")
    if how == "the terminal is closed":
        terminal.end(close=True)
    elif how == "nobody reads":  # what the keys paint fills the terminal, and then the app waits for it
        for _ in range(800):
            terminal.type("some words ")
            time.sleep(0.005)
        terminal.end(signal.SIGTERM, deaf=True)
    else:
        terminal.end(getattr(signal, how))
    turn = last_turn(home)
    assert (turn["question"], turn["reply"]) == ("How long may I keep it?", "You have 30 days.")
    assert turn["error"] == "cancelled"


def test_a_process_that_is_killed_in_mid_answer_loses_nothing_that_was_said(home):
    terminal = opened(home)
    terminal.type("My mail is ann@example.org: how long may I keep it?\r")
    terminal.shows("30 days")
    assert terminal.end(signal.SIGKILL) == -signal.SIGKILL
    left = [file.read_text(encoding="utf-8") for file in paths.unfinished(home).iterdir()]
    assert len(left) == 1 and "ann@example.org" not in left[0], "private values stay off the disk"
    terminal = opened(home)
    terminal.shows("was cut off")
    terminal.type("\x13")  # Ctrl+S: the conversation goes on where it stopped
    terminal.shows("how long may I keep it?")
    at = terminal.type("\r")
    terminal.shows("You have 30 days.", since=at)
    terminal.end(signal.SIGTERM)
    turn = last_turn(home)
    assert turn["question"] == "My mail is [EMAIL_1]: how long may I keep it?" and turn["reply"] == "You have 30 days."
    assert turn["error"] == CUT and turn["flags"] == ["error"], "nothing is learned from it"
    assert not list(paths.unfinished(home).iterdir())


def test_the_screen_is_there_before_any_model_library():
    heavy = {"torch", "transformers", "peft", "onnxruntime", "tokenizers", "faiss", "sklearn", "numpy", "sqlalchemy"}
    code = "import agent.surfaces.tui.opening, sys; print(*sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], cwd=TESTS.parent,
                          capture_output=True, text=True, check=True)
    assert {name.partition(".")[0] for name in told.stdout.split()} & heavy == set()
