"""kill -9 at every write of a change to the registry: one champion, old or new, whole; a rerun finishes; the chain holds."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the killed process is a fork")


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `faults/promotion.py` found."""
    command = [sys.executable, str(ROOT / "tests" / "faults" / "promotion.py"), str(tmp_path_factory.mktemp("faults"))]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_wherever_it_is_killed_nothing_half_done_is_chosen_and_a_rerun_finishes(killed: dict[str, Any]) -> None:
    assert killed["breaches"] == []


def test_every_change_was_killed_at_ten_points_or_more(killed: dict[str, Any]) -> None:
    assert set(killed["points"]) == {"publish", "promote", "rollback", "canary", "mend"}
    assert min(killed["points"].values()) >= 10, killed["points"]


def test_rows_of_the_audit_were_cut_in_the_middle_too(killed: dict[str, Any]) -> None:
    assert killed["torn"] >= 4
