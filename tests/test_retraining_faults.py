"""kill -9 and a full disk all along a retraining: one whole champion; a rerun promotes once. Eight ticks at once, too."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from taught import library

from agent.domain import Domain
from agent.registry import Registry
from agent.serving import Bases
from agent.settings import Settings
from agent.store import Store
from tuning import recipe, runs, tune
from tuning.compare import Comparison
from tuning.dataset import Dataset
from tuning.rows import Row
from tuning.verdict import Pair
from tuning.workshop import Workshop

ROOT = Path(__file__).parent.parent
ALONE = {"OMP_NUM_THREADS": "1", "RETUNE_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
linux = pytest.mark.skipif(sys.platform != "linux", reason="the killed processes are forks that have torch loaded")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where `faults/retraining.py` works; afterwards its domain is in `library` and the home before all runs in `start`."""
    return tmp_path_factory.mktemp("faults")


@pytest.fixture(scope="module")
def found(folder: Path, real_models: Path) -> dict[str, Any]:
    """What it found."""
    command = [sys.executable, str(ROOT / "tests" / "faults" / "retraining.py"), str(folder), str(real_models)]
    path = os.pathsep.join(map(str, (ROOT, ROOT / "tests")))
    done = subprocess.run(command, cwd=ROOT, env=os.environ | ALONE | {"PYTHONPATH": path}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@linux
def test_wherever_it_is_killed_the_champion_is_whole_and_a_rerun_goes_on_and_promotes_once(found: dict[str, Any]) -> None:
    assert found["breaches"]["killed"] == []


@linux
def test_it_was_killed_at_ten_places_or_more_of_training_and_of_promotion(found: dict[str, Any]) -> None:
    again = found["killed"]
    trained = [place for place, rerun in again.items() if rerun["steps"]]
    late = [place for place, rerun in again.items() if not rerun["steps"]]
    assert len(trained) >= 5 and len(late) >= 5 and len(again) >= 10


@linux
def test_a_full_disk_is_a_sentence_that_harms_nothing_and_a_rerun_finishes_after_room_was_made(found: dict[str, Any]) -> None:
    assert found["breaches"]["full"] == []
    assert len(found["full"]) >= 8
    for place, words in found["full"].items():
        assert "No space left" in words and "make room" in words.lower() and "run it again" in words, (place, words)


@linux
def test_eight_ticks_at_once_retrain_and_promote_once(found: dict[str, Any], folder: Path) -> None:
    home, domain = folder / "ticked", Domain.load(folder / "library")
    shutil.copytree(folder / "start", home, symlinks=True)
    (home / "schedule.toml").write_text(f"['{domain.folder}']\nrecipe = '{folder / 'quick.toml'}'\nrows = 0\ndrift = false\n",
                                        encoding="utf-8")
    command = [sys.executable, "-m", "agent.surfaces.cli", "tick", "--now", "2026-05-04T12:00", "--json", "--home", str(home)]

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(command, cwd=ROOT, env=os.environ | ALONE, text=True, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE)

    everyone = [start() for _ in range(8)]
    said = [each.communicate() for each in everyone]
    assert [each.returncode for each in everyone] == [0] * 8, said
    done = [row for out, _ in said for row in json.loads(out)]
    assert [(row["window"], row["status"], row["bundle"]) for row in done] == [
        ("cron 2026-05-04 03:00 UTC", "promoted", "template@0003")]
    late = start()
    assert (late.communicate()[0].strip(), late.returncode) == ("[]", 0)
    store = Store(Settings.load(home=home).database_url)
    store.open()
    assert [(run.status, run.token) for run in runs.latest(store)] == [("promoted", 1)]
    store.close()
    registry = Registry(domain, home)
    assert registry.aliases() == {"champion": 3, "previous": 2} and registry.problems() == []
    assert [row["detail"]["to"]["champion"] for row in registry.audit() if row["what"] == "promote"] == [2, 3]


# ---- the second stage of the generator

@pytest.mark.parametrize("deadly", range(1, 10))
def test_a_second_stage_that_was_cut_off_begins_again_from_the_first_one(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deadly: int) -> None:
    domain, settings = library(tmp_path / "library"), Settings.load(home=tmp_path / "home")
    (tmp_path / "built" / "router").mkdir(parents=True)
    (tmp_path / "built" / "router" / "head.json").write_text("{}", encoding="utf-8")
    champion = Registry(domain, settings.home).publish(tmp_path / "built", {})
    young = recipe.load("young")
    plan = replace(young, preference=replace(young.preference, method="dpo"))
    row = Row("generator", "correction", "When?", answer="At nine.", rejected="At ten.")
    rows = Dataset(domain.name, (), (row,), (), (), (), False)
    pairs = tuple(Pair(str(i), str(i), part, float(part == "safety"), 1.0, {}, 0.0)
                  for part in ("generator", "safety") for i in range(60))
    began: list[str] = []

    def prefer(rows: Any, recipe: Any, base: Any, domain: Any, start: Path, out: Path, threads: int):
        began.append((start / "adapter").read_text(encoding="utf-8"))
        out.mkdir(exist_ok=True)
        (out / "adapter").write_text(f"{began[-1]}, then preferred", encoding="utf-8")
        yield from ()

    def shop() -> Workshop:
        return Workshop(domain, settings, plan, Bases(None, None), rows, champion)  # type: ignore[arg-type]

    monkeypatch.setattr(tune, "prefer", prefer)
    monkeypatch.setattr(Workshop, "_beside", lambda *given: Comparison(pairs, frozenset({"generator"}), {"figures": []}))
    first = shop()
    (first.bundle / "generator").mkdir()
    (first.bundle / "generator" / "adapter").write_text("supervised", encoding="utf-8")
    calls = 0

    def cut_off(real: Any) -> Any:
        def call(*given: Any, **named: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == deadly:
                raise KeyboardInterrupt
            return real(*given, **named)

        return call

    with monkeypatch.context() as cut:
        for owner, name in ((shutil, "copytree"), (shutil, "rmtree"), (Workshop, "_beside")):
            cut.setattr(owner, name, cut_off(getattr(owner, name)))
        with pytest.raises(KeyboardInterrupt):
            list(first.compare(0))
    again = shop()
    list(again.compare(0))
    assert set(began) == {"supervised"} and len(again.stages) == 1
    assert (again.bundle / "generator" / "adapter").read_text(encoding="utf-8") == "supervised, then preferred"
    assert [path.name for path in again.bundle.iterdir()] == ["generator"]
