"""The app on a real terminal, with a stub for the model: what a lost one leaves behind, and what opening it costs."""

import os
import pty
import select
import signal
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path

import pytest

from agent.settings import Settings
from agent.store import Store

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


def opened(home: Path) -> tuple[int, int]:
    """Process and terminal of an app in a session of its own."""
    process, terminal = pty.fork()
    if process == 0:
        os.environ |= {"TERM": "xterm-256color", "PYTHONPATH": os.pathsep.join((str(TESTS), str(TESTS.parent))),
                       "COLUMNS": "100", "LINES": "30"}
        os.execv(sys.executable, [sys.executable, "-c", CODE, str(home)])
    return process, terminal


def shows(terminal: int, words: str, seconds: float = 60) -> None:
    """Read until the words came."""
    seen, end = b"", time.monotonic() + seconds
    while words.encode() not in seen:
        assert time.monotonic() < end, f"{words!r} never came: {seen[-2000:]!r}"
        if select.select([terminal], [], [], 0.2)[0]:
            seen += os.read(terminal, 65536)


def ended(process: int, terminal: int | None, seconds: float = 30) -> int:
    """Wait for the process; its exit status, negative for a signal."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if terminal is not None and select.select([terminal], [], [], 0.05)[0]:
            with suppress(OSError):
                os.read(terminal, 65536)
        found, status = os.waitpid(process, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.kill(process, signal.SIGKILL)
    raise AssertionError("the app did not end")


@pytest.mark.parametrize("how", ["the terminal is closed", "nobody reads", "SIGHUP", "SIGTERM"])
def test_what_was_said_is_logged_when_the_terminal_or_the_process_is_ended_in_mid_answer(home, how):
    with closing(Store(Settings.load(home=home).database_url)) as store:
        store.open()
        store.session("before", "customer_service")  # so that it is not the first start
    process, terminal = opened(home)
    shows(terminal, "customer_service@0001")
    os.write(terminal, b"How long may I keep it?\r")
    shows(terminal, "30 days")
    if how == "the terminal is closed":
        os.close(terminal)
        ended(process, None)
    elif how == "nobody reads":  # what the keys paint fills the terminal, and then the app waits for it
        for _ in range(800):
            os.write(terminal, b"some words ")
            time.sleep(0.005)
        os.kill(process, signal.SIGTERM)
        ended(process, None)
        os.close(terminal)
    else:
        os.kill(process, getattr(signal, how))
        ended(process, terminal)
        os.close(terminal)
    with closing(Store(Settings.load(home=home).database_url)) as store:
        store.open()
        turn = store.last_turn(store.sessions()[0]["id"])
    assert (turn["question"], turn["reply"]) == ("How long may I keep it?", "You have 30 days.")
    assert turn["error"] == "cancelled"


def test_the_screen_is_there_before_any_model_library():
    heavy = {"torch", "transformers", "peft", "onnxruntime", "tokenizers", "faiss", "sklearn", "numpy", "sqlalchemy"}
    code = "import agent.surfaces.tui.opening, sys; print(*sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], cwd=TESTS.parent,
                          capture_output=True, text=True, check=True)
    assert {name.partition(".")[0] for name in told.stdout.split()} & heavy == set()
