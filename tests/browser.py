"""Headless Chromium by chromedriver's HTTP interface (W3C WebDriver): open, find, type, click, read, photograph."""

import base64
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

CHROMIUM, DRIVER = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
MISSING = ("" if CHROMIUM and DRIVER else
           "there is no Chromium with its driver here: `apt-get install chromium chromium-driver` brings both")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--window-size=900,900")
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"


class Browser:
    """One window."""

    def __init__(self, driver: str, session: str) -> None:
        self._at = f"{driver}/session/{session}"

    def ask(self, method: str, path: str, **body: Any) -> Any:
        """One command of the protocol."""
        came = httpx2.request(method, f"{self._at}{path}", json=body if method == "POST" else None, timeout=60)
        assert came.status_code == 200, came.text
        return came.json()["value"]

    def open(self, url: str) -> None:
        """Go there."""
        self.ask("POST", "/url", url=url)

    def run(self, script: str, *arguments: Any) -> Any:
        """The value of a script's `return`."""
        return self.ask("POST", "/execute/sync", script=script, args=list(arguments))

    def click(self, css: str) -> None:
        """Click the first that fits."""
        self.ask("POST", f"/element/{self._find(css)}/click")

    def type(self, css: str, text: str) -> None:
        """Type into it; a line end is the key Enter."""
        self.ask("POST", f"/element/{self._find(css)}/value", text=text.replace("\n", "\ue007"))

    def text(self) -> str:
        """What the page shows."""
        return self.run("return document.body.innerText")

    def until(self, true: Callable[[], Any], seconds: float = 30) -> None:
        """Let the page work until something is true."""
        end = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < end, f"it never came true; the page says:\n{self.text()}\n{self.complaints()}"
            time.sleep(0.05)

    def complaints(self) -> list[str]:
        """What the console says: errors, and what the page's policy forbade."""
        return [each["message"] for each in self.ask("POST", "/se/log", type="browser")]

    def picture(self, file: Path) -> None:
        """A PNG of the window."""
        file.write_bytes(base64.b64decode(self.ask("GET", "/screenshot")))

    def _find(self, css: str) -> str:
        return self.ask("POST", "/element", using="css selector", value=css)[_ELEMENT]


@contextmanager
def browsing() -> Iterator[Browser]:
    """A fresh browser with a profile of its own."""
    with tempfile.TemporaryDirectory() as profile:
        driver = subprocess.Popen([str(DRIVER), "--port=0"], stdout=subprocess.PIPE, text=True)
        try:
            port = next(found[1] for line in driver.stdout if (found := re.search(r"started successfully on port (\d+)", line)))
            options = {"args": [*FLAGS, f"--user-data-dir={profile}"], "binary": CHROMIUM}
            wanted = {"capabilities": {"alwaysMatch": {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}}}
            made = httpx2.post(f"http://127.0.0.1:{port}/session", json=wanted, timeout=120).json()["value"]
            browser = Browser(f"http://127.0.0.1:{port}", made["sessionId"])
            yield browser
            browser.ask("DELETE", "")
        finally:
            driver.terminate()
            driver.wait()
