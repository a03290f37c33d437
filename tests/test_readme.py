"""The README's Python runs and says what it says, and every command that it names is one."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from xml.etree import ElementTree

import pytest
from typer.main import get_command

from agent.settings import Settings
from agent.surfaces.cli import app

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
SERVED = "http://127.0.0.1:8080"


@contextmanager
def serving(environment: dict[str, str]) -> Iterator[str]:
    """`retune serve` with the real models on a free port; its address."""
    command = [sys.executable, "-m", "agent.surfaces.cli", "serve", "--port", "0", "--domain", "finance"]
    process = subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE)
    try:
        yield re.search(r"http://\S+", process.stdout.readline())[0]
    finally:
        process.terminate()
        assert process.wait(30) == 0


@pytest.mark.parametrize("code", BLOCKS, ids=lambda code: str(BLOCKS.index(code)))
def test_python_of_the_readme_runs_by_itself_and_prints_what_its_comments_say(settings: Settings, code: str):
    """`print(...)  # $234.79 ...`: what stands between the sign and the dots is printed."""
    home = os.environ | {"RETUNE_HOME": str(settings.home)}
    with serving(home) if SERVED in code else nullcontext(SERVED) as address:
        run = subprocess.run([sys.executable, "-c", code.replace(SERVED, address)], env=home, text=True, capture_output=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip()
    promised = re.findall(r"print\(.*\)\s+# (.+?)(?: \.\.\.)?$", code, re.MULTILINE)
    assert [each for each in promised if each not in run.stdout] == []


def test_every_command_of_the_readme_is_one():
    commands = get_command(app)
    named = {word for text in re.findall(r"`retune ([^`]+)`", README) for word in re.split(r"[/ ]", text.split(" ")[0])}
    assert len(named) > 15 and named <= set(commands.commands), named - set(commands.commands)
    parts = {word for text in re.findall(r"`retune feedback ([^`]+)`", README) for word in text.split(" ")[0].split("/")}
    assert parts == set(commands.commands["feedback"].commands)


def test_screens_of_the_readme_are_those_that_the_tests_of_the_app_compare():
    shown = re.findall(r"!\[[^\]]+\]\(tests/snapshots/(\S+)\.svg\)", README)
    compare = " ".join(file.read_text(encoding="utf-8") for file in (ROOT / "tests").glob("test_tui_*.py"))
    assert len(shown) >= 4 and shown == [name for name in shown if name.rsplit("-", 2)[0] in compare]
    for name in shown:
        drawn = ElementTree.parse(ROOT / "tests" / "snapshots" / f"{name}.svg")
        assert drawn.getroot().tag.endswith("}svg") and len("".join(drawn.getroot().itertext()).split()) > 20
