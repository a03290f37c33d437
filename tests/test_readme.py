"""The README's Python runs and says what it says, and every command that it names is one."""

import os
import re
import subprocess
import sys
from pathlib import Path

from typer.main import get_command

from agent.settings import Settings
from agent.surfaces.cli import app

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def test_the_python_of_the_readme_runs(settings: Settings):
    code, = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    told = subprocess.run([sys.executable, "-c", code], env=os.environ | {"RETUNE_HOME": str(settings.home)}, text=True,
                          capture_output=True, check=True)
    assert "$234.79" in told.stdout and "loan_payment finance@0001" in told.stdout


def test_every_command_of_the_readme_is_one():
    commands = get_command(app)
    named = {word for text in re.findall(r"`retune ([^`]+)`", README) for word in re.split(r"[/ ]", text.split(" ")[0])}
    assert len(named) > 15 and named <= set(commands.commands), named - set(commands.commands)
    parts = {word for text in re.findall(r"`retune feedback ([^`]+)`", README) for word in text.split(" ")[0].split("/")}
    assert parts == set(commands.commands["feedback"].commands)
