"""`retune serve` as a process: refused where nobody could be kept out, drained by a signal, ended by two."""

import json
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx2
import pytest
from webapp import ASK, until

from agent import keys
from agent.settings import Settings
from agent.store import Store

SERVER = Path(__file__).parent / "faults" / "draining.py"


class Server:
    """A running one, with one answer open that stands still after its first sentence."""

    def __init__(self, home: Path, grace: int) -> None:
        self.home, self.lines, self.status = home, [], 0
        (home / "held").touch()
        self.process = subprocess.Popen([sys.executable, str(SERVER), str(home), str(grace)], stdout=subprocess.PIPE, text=True)
        self.url = re.search(r"http://\S+", self.process.stdout.readline())[0]
        self.asking = threading.Thread(target=self._ask)
        self.asking.start()
        until(lambda: any("30 days" in line for line in self.lines))

    def _ask(self) -> None:
        try:
            with httpx2.stream("POST", f"{self.url}/v1/chat/completions", json=ASK | {"stream": True},
                               headers={"X-Session-Id": "open"}, timeout=60) as came:
                for line in came.iter_lines():
                    self.lines.append(line)
        except httpx2.TransportError:
            self.lines.append("broken off")

    def turned_away(self) -> bool:
        """Whether it accepts nobody new."""
        try:
            httpx2.get(f"{self.url}/healthz", timeout=5)
            return False
        except httpx2.TransportError:
            return True

    def ended(self) -> str:
        """What it said last; it must have ended by itself."""
        out, _ = self.process.communicate(timeout=30)
        self.asking.join(10)
        assert self.process.returncode == 0
        return out

    def turn(self) -> dict:
        """The open answer as it is on disk."""
        with closing(Store(Settings.load(home=self.home).database_url)) as store:
            store.open()
            return store.last_turn("open")


@contextmanager
def serving(home: Path, grace: int) -> Iterator[Server]:
    server = Server(home, grace)
    try:
        yield server
    finally:
        server.process.kill()
        server.process.wait()
        server.asking.join(10)


def test_a_signal_lets_an_open_stream_end_and_nobody_new_come_in(home):
    with serving(home, 30) as server:
        server.process.send_signal(signal.SIGTERM)
        until(server.turned_away)
        (home / "held").unlink()
        assert "cut off: 0" in server.ended()
        assert "data: [DONE]" in server.lines
        assert server.turn()["reply"] == "You have 30 days. Keep the box." and not server.turn()["error"]


def test_a_stream_that_does_not_end_in_time_is_told_so_and_logged_as_far_as_it_was_said(home):
    with serving(home, 1) as server:
        server.process.send_signal(signal.SIGINT)
        assert "cut off: 1" in server.ended()
        last = [line for line in server.lines if line][-1]
        assert json.loads(last[6:])["error"]["code"] == "stopping" and "data: [DONE]" not in server.lines
        assert (server.turn()["reply"], server.turn()["error"]) == ("You have 30 days.", "cancelled")


def test_a_second_signal_ends_it_at_once_and_nothing_that_was_said_is_lost(home):
    with serving(home, 600) as server:
        server.process.send_signal(signal.SIGTERM)
        until(server.turned_away)
        server.process.send_signal(signal.SIGTERM)
        assert "cut off: 1" in server.ended()
        assert (server.turn()["reply"], server.turn()["error"]) == ("You have 30 days.", "cancelled")


@pytest.mark.parametrize("revoked", [False, True])
def test_off_loopback_it_does_not_start_without_a_key_that_opens(home, revoked):
    if revoked:
        with closing(Store(Settings.load(home=home).database_url)) as store:
            store.open()
            keys.add(store, "web", "acme", ["chat"])
            keys.revoke(store, "web")
    done = subprocess.run([sys.executable, "-m", "agent.surfaces.cli", "serve", "--host", "0.0.0.0"], capture_output=True,
                          text=True, timeout=60, cwd=Path(__file__).parent.parent)
    assert done.returncode == 1 and "`retune keys add NAME --tenant TENANT`" in done.stderr and "Traceback" not in done.stderr
