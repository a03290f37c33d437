"""The models screen by its keys: bundles of a small domain of the test's own, retrainings that are scripts, a real registry."""

import asyncio
import fcntl
import json
import os
import sys
import time
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from taught import library
from textual.widgets import Static
from tui import SIZES, Typist, app_on, piloted, same_as_snapshot, say, text_of, until

from agent import paths
from agent.errors import DataError
from agent.prompt import prompt_hash
from agent.registry import Registry
from agent.schema import runs
from agent.settings import Settings
from agent.store import Store
from agent.surfaces.progress import StepLines
from agent.surfaces.tui.retraining import Retraining
from agent.surfaces.tui.shelf import Moved
from agent.surfaces.tui.widgets import bars, curve
from tuning import statistics
from tuning.gate import Pair, Rule, decide
from tuning.runs import Outcome
from tuning.steps import Note, TrainStep

NOW = datetime(2026, 3, 9, 12, tzinfo=UTC)
BETTER = {"borrowing": (2, 14, 40), "opening": (1, 9, 30), "talk_to_person": (0, 2, 30)}
WORSE = {"borrowing": (1, 8, 40), "opening": (14, 0, 30), "talk_to_person": (0, 1, 30)}
"""Intent -> rows lost, rows won, rows that both have right."""


def pairs(moved: dict[str, tuple[int, int, int]]) -> list[Pair]:
    """Of the router, and of a safety set that both have right."""
    made = [Pair(f"{intent}{side}{number}", f"{intent}{side}{number}", "router", *said,
                 {"intent": intent, "length": "long" if number % 3 else "short"})
            for intent, counts in moved.items()
            for side, (said, count) in enumerate(zip(((1, 0), (0, 1), (1, 1)), counts, strict=True)) for number in range(count)]
    return made + [Pair(f"safe{number}", f"safe{number}", part, 1, 1, {}) for part in ("safety", "oos") for number in range(40)]


def entry(own: list[Pair], **named: Any) -> dict[str, Any]:
    before, after = (sum(getattr(pair, side) for pair in own) / len(own) for side in ("champion", "challenger"))
    won, lost = (sum(1 for pair in own if sign * (pair.challenger - pair.champion) > 0) for sign in (1, -1))
    low, high = statistics.paired(won, lost, len(own), 0.025)
    return named | {"n": len(own), "champion": before, "challenger": after, "delta": after - before, "low": low, "high": high}


def losses(stage: str, start: float) -> list[dict[str, Any]]:
    """A curve of 60 steps with three epochs."""
    made = [{"stage": stage, "done": done, "loss": start / (1 + done / 15), "held_out": None} for done in range(1, 61)]
    return made + [{"stage": stage, "done": done, "loss": 0.0, "held_out": start / (0.8 + done / 16)} for done in (20, 40, 60)]


def report(champion: str, moved: dict[str, tuple[int, int, int]]) -> dict[str, Any]:
    """As a retraining writes it, with what the gate says about these pairs."""
    asked = pairs(moved)
    parts: dict[str, list[Pair]] = defaultdict(list)
    slices: dict[tuple[str, str, str], list[Pair]] = defaultdict(list)
    for pair in asked:
        parts[pair.part].append(pair)
        for kind, value in pair.slices.items():
            slices[pair.part, kind, value].append(pair)
    return {"domain": "template", "champion": champion, "challenger": "challenger",
            "figures": [entry(own, part=part, few_shot=None) for part, own in parts.items()],
            "slices": [entry(own, part=part, slice=kind, value=value) for (part, kind, value), own in slices.items()],
            "verdict": decide(asked, Rule(resamples=500), frozenset({"router"})).table(),
            "curves": [*losses("router", 2.0), *losses("generator", 3.0)]}


def publish(registry: Registry, folder: Path, table: dict[str, Any] | None, day: int, parent: str) -> None:
    """A small bundle with that report."""
    (folder / "router").mkdir(parents=True)
    (folder / "router" / "head.safetensors").write_text(folder.name, encoding="utf-8")
    told: dict[str, Any] = {"parent": parent, "recipe": "young", "made": f"2026-03-0{day}T03:00:00+00:00",
                            "prompt": prompt_hash(registry.domain)}
    if table:
        (folder / "report.json").write_text(json.dumps(table), encoding="utf-8")
        told["verdict"] = {key: table["verdict"][key] for key in ("decision", "why", "slice")}
    registry.publish(folder, told)


@pytest.fixture
def registry(home: Path, tmp_path: Path) -> Registry:
    """2 was promoted over nothing, 3 over 2; 4 was refused; each has a report but the first."""
    domain = library(tmp_path / "library")
    made = Registry(domain, home)
    publish(made, tmp_path / "first", None, 1, "")
    publish(made, tmp_path / "second", report("template@0002", BETTER), 2, "template@0002")
    publish(made, tmp_path / "third", report("template@0003", WORSE), 3, "template@0003")
    made.promote(2, None, "the first", "test")
    made.promote(3, 2, "better", "test")
    return made


def app_of(registry: Registry, home: Path, *more: str) -> Any:
    return app_on(home, Typist("You may borrow 12 books."), intent="borrowing", domains=(str(registry.domain.folder), *more))


def said(app: Any, id: str) -> str:
    """What stands in a part of the screen, however it is wrapped."""
    return app.screen.query_one(id, Static).content.plain


async def opened(pilot: Any, app: Any) -> Any:
    """The screen, with its bundles read."""
    await pilot.press("f4")
    await until(pilot, lambda: app.screen.part == "models")
    app.screen.stock.clock = lambda: NOW
    await until(pilot, lambda: app.screen.shelf)
    return app.screen


def ran(home: Path, folder: Path) -> None:
    """Two runs of the past, and a schedule."""
    store = Store(Settings.load(home=home).database_url)
    store.open()
    with store.writing() as at:
        for number, (status, words) in enumerate((("promoted", "router: better by at least 8 points."),
                                                  ("failed", "The disk is full; make room and run it again."))):
            when = f"2026-03-0{number + 2}T03:00:00.000000+00:00"
            at.execute(runs.insert().values(id=f"run{number}", job="retrain template", window=f"cron {number}", status=status,
                                            token=1, holder="here:1", stage="router", detail={"words": words}, created=when,
                                            updated=when, lease_until=when))
    store.close()
    (home / "schedule.toml").write_text(f'["{folder}"]\ncron = "0 3 * * *"\ntimezone = "Europe/Berlin"\n', encoding="utf-8")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("theme", ["dark", "light"])
def test_bundles_show_what_they_are_and_what_the_gate_said(registry, home, size, theme):
    ran(home, registry.domain.folder)

    async def look():
        app = app_of(registry, home)
        async with piloted(app, SIZES[size]) as pilot:
            app.theme = theme
            screen = await opened(pilot, app)
            screen.read()
            await until(pilot, lambda: said(app, "#runs").startswith("next run  2026-03-10 03:00 Europe/Berlin"))
            shown = text_of(app)
            assert "0004" in shown and "0003  champion" in shown and "0002  previous" in shown
            assert "The gate says refuse" in shown
            await until(pilot, lambda: screen.query_one("#slices").display)
            assert screen.query_one("#slices").moved[0].name == "router intent=opening", "what lost most is first"
            same_as_snapshot(app, f"models-{size}-{theme}")
            await pilot.press("pagedown", "pagedown")
            await until(pilot, lambda: "held out" in text_of(app) and "step 60" in text_of(app))
            await pilot.press("down", "down")
            await until(pilot, lambda: "never compared" in text_of(app) and "Slices" not in text_of(app))

    asyncio.run(look())


def test_promote_and_roll_back_say_what_they_change_and_do_it_after_a_yes_alone(registry, home):
    async def change():
        app = app_of(registry, home)
        async with piloted(app, SIZES["140x45"]) as pilot:
            await opened(pilot, app)
            await pilot.press("p")
            await until(pilot, lambda: "Promote template@0004?" in text_of(app))
            shown = " ".join(text_of(app).split())
            assert "The gate said refuse" in shown and "template@0003 becomes `previous`" in shown
            assert "template@0002 is `previous` no longer" in shown
            await pilot.press("enter", "n")
            await until(pilot, lambda: app.screen.part == "models")
            assert registry.aliases() == {"champion": 3, "previous": 2}
            await pilot.press("p", "y")
            await until(pilot, lambda: "0004  champion" in text_of(app))
            assert registry.aliases() == {"champion": 4, "previous": 3}
            row = registry.audit()[-1]
            assert row["by"] == "anna" and row["detail"]["reason"].endswith("(forced)")
            await pilot.press("b")
            await until(pilot, lambda: "Roll back to template@0003?" in text_of(app))
            await pilot.press("y")
            await until(pilot, lambda: "0003  champion" in text_of(app))
            assert registry.aliases() == {"champion": 3}
            await pilot.press("b")
            await until(pilot, lambda: "has no champion before this one" in text_of(app))
            assert app.screen.part == "models"
            await pilot.press("down", "p")
            await until(pilot, lambda: "is the champion already" in text_of(app))

    asyncio.run(change())


def test_a_change_that_somebody_else_made_meanwhile_is_not_overwritten_and_is_shown(registry, home):
    async def change():
        app = app_of(registry, home)
        async with piloted(app, SIZES["80x24"]) as pilot:
            await opened(pilot, app)
            await pilot.press("p")
            await until(pilot, lambda: "Promote template@0004?" in text_of(app))
            assert "y do it   n leave it" in text_of(app)
            same_as_snapshot(app, "models-promote-80x24-dark")
            registry.promote(2, 3, "by hand", "ben")
            registry.set_canary(4, 0.2, "a trial", "ben")
            await pilot.press("y")
            await until(pilot, lambda: "Nothing was changed" in text_of(app))
            await until(pilot, lambda: "0002  champion" in text_of(app) and "answers in 20% of the sessions" in text_of(app))
            assert registry.aliases() == {"champion": 2, "previous": 3}

    asyncio.run(change())


SCRIPT = """
import json, sys, time, pathlib
go = pathlib.Path(sys.argv[1])
print(json.dumps({"s": 1.0, "note": "24 rows for the router."}), flush=True)
for done in range(1, 41):
    row = {"s": 1.0 + done, "stage": "router", "epoch": 0, "done": done, "total": 100, "loss": 2 / done, "held_out": None}
    print(json.dumps(row))
print(json.dumps(row | {"held_out": 0.25}), flush=True)
for _ in range(3000):  # a test that fails leaves it behind
    if go.exists():
        break
    time.sleep(0.02)
print(json.dumps({"s": 99.0, "status": "refused", "bundle": "template@0004", "words": "opening got worse."}), flush=True)
"""


def test_a_retraining_is_watched_while_the_chat_goes_on_stopped_and_begun_again(registry, home, tmp_path):
    go = tmp_path / "go"

    async def train():
        app = app_of(registry, home)
        async with piloted(app, SIZES["80x24"]) as pilot:
            screen = await opened(pilot, app)
            screen.stock.command = lambda table, settings, plan: [sys.executable, "-c", SCRIPT, str(go)]
            await pilot.press("t", "y")
            await until(pilot, lambda: "step 40 of 100" in text_of(app))
            shown = text_of(app)
            assert "about 60 s left of this stage" in shown and "● 0.25" in shown and "promoted by itself" not in shown
            with pytest.raises(DataError, match="being retrained already"):
                screen.stock.begin(screen.table)
            await pilot.press("t")
            await pilot.pause(0.1)
            assert app.screen is screen, "while it runs there is no second one to begin"
            await pilot.press("escape")
            await until(pilot, lambda: app.screen is app.chat)
            assert (await say(pilot, "How many books?")).row["state"] == "answered"
            pid = screen.stock.progress(screen.table).pid
            await pilot.press("f4", "x")
            await until(pilot, lambda: "Stop retraining template?" in text_of(app))
            await pilot.press("y")
            await until(pilot, lambda: "Retraining template: stopped" in text_of(app))
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)
            await pilot.press("t", "y")
            await until(pilot, lambda: "step 40 of 100" in text_of(app))
            await pilot.press("f6")
            go.touch()
            await until(pilot, lambda: "opening got worse." in text_of(app))
            assert app.screen is app.chat, "it is told wherever one is"

    asyncio.run(train())


@pytest.mark.parametrize("size", SIZES)
def test_a_retraining_that_another_app_began_is_found_and_watched(registry, home, size):
    ran(home, registry.domain.folder)
    folder = paths.training(home)
    folder.mkdir(parents=True)
    file = folder / "template.steps.jsonl"
    rows = [{"pid": os.getpid(), "began": "2026-03-09T11:40:00+00:00"}, {"s": 3.0, "note": "24 rows for the router."}]
    for done in range(1, 51):
        row = {"s": 10.0 + done, "stage": "router", "epoch": (done - 1) // 20, "done": done, "total": 90,
               "loss": 2 / (1 + done / 9)}
        rows += [row | {"held_out": held} for held in ([None, 9 / done] if done in (20, 40) else [None])]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

    async def look():
        app = app_of(registry, home)
        async with piloted(app, SIZES[size]) as pilot:
            await opened(pilot, app)
            app.screen.read()
            await until(pilot, lambda: "since 11:40 UTC" in text_of(app) and app.screen.query_one("#figures").display)
            await until(pilot, lambda: "2026-03-10" in said(app, "#runs"))
            await pilot.press("home")
            same_as_snapshot(app, f"models-training-{size}-dark")
            assert "x Stop" in text_of(app)

    with file.open("rb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        asyncio.run(look())


def test_what_is_damaged_is_named_and_hides_nothing_else(registry, home):
    third, fourth = (registry.get(str(number)).path for number in (3, 4))
    (fourth / "report.json").chmod(0o644)
    (fourth / "report.json").write_text('{"figures": 7', encoding="utf-8")
    (third / "router" / "head.safetensors").chmod(0o644)
    (third / "router" / "head.safetensors").write_text("\x1b[31mnoise", encoding="utf-8")
    (registry.folder / "0005").mkdir()
    (registry.folder / "0005" / "manifest.json").write_text("{", encoding="utf-8")
    (registry.folder / "0006").mkdir()
    (registry.folder / "0006" / "manifest.json").write_text(json.dumps(
        {"files": {}, "made": 7, "verdict": {"decision": "\x1b[2Jpromote", "why": ["odd"]}}), encoding="utf-8")

    async def look():
        app = app_of(registry, home)
        async with piloted(app, SIZES["140x45"]) as pilot:
            screen = await opened(pilot, app)
            shown = text_of(app)
            assert "0005               damaged" in shown and "0003  champion" in shown
            assert "[2Jpromote" in shown and "\x1b" not in shown
            await pilot.press("down")
            await until(pilot, lambda: "manifest.json is damaged" in said(app, "#about"))
            await pilot.press("p")
            await until(pilot, lambda: "Nothing was changed" in text_of(app))
            await pilot.press("down")
            await until(pilot, lambda: "report.json of template@0004 cannot be read" in said(app, "#figures"))
            await pilot.press("down")
            await until(pilot, lambda: "is damaged or missing" in said(app, "#figures") and "in per cent" in text_of(app))
            registry.alias_file.write_text("{", encoding="utf-8")
            await until(pilot, lambda: "aliases.json is damaged" in said(app, "#runs"))
            assert len(screen.shelf.versions) == 5

    asyncio.run(look())


def test_each_domain_is_a_key_away_and_one_that_cannot_be_read_says_why(registry, home, tmp_path):
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "domain.toml").write_text("name = 3", encoding="utf-8")

    async def look():
        app = app_of(registry, home)
        async with piloted(app, SIZES["140x45"]) as pilot:
            app.domains.append(str(broken))
            await opened(pilot, app)
            await pilot.press("right")
            await until(pilot, lambda: "domain.toml" in said(app, "#about"))
            await pilot.press("p", "b", "t", "right")
            await until(pilot, lambda: app.screen.shelf and "0003  champion" in text_of(app))

    asyncio.run(look())


# ---- without a screen

def written(folder: Path, *lines: Any) -> Retraining:
    """A file of steps as `retune retrain --steps` writes it."""
    made = Retraining("shop", folder)
    made.file.parent.mkdir(exist_ok=True)
    with made.file.open("a", encoding="utf-8") as stream:
        stream.writelines((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
    return made


BEGAN = {"began": "2026-03-09T11:40:00+00:00", "pid": 2**22 + 1}


def test_steps_are_read_as_they_were_printed(tmp_path, capsys):
    printer = StepLines()
    for step in (Note("3 rows."), TrainStep("router", 0, 1, 4, 2.0), TrainStep("router", 0, 2, 4, float("nan")),
                 TrainStep("router", 0, 2, 4, 1.5, 1.25), Outcome("abstained", "too few pairs", "shop@0002", {"much": 1})):
        printer.show(step)
    seen = written(tmp_path, BEGAN, *capsys.readouterr().out.splitlines()).look()
    assert (seen.note, seen.stage, seen.done, seen.total) == ("3 rows.", "router", 2, 4)
    assert (seen.loss, seen.held_out) == (((1, 2.0),), ((2, 1.25),))
    assert (seen.status, seen.bundle, seen.words, seen.running) == ("abstained", "shop@0002", "too few pairs", False)


def test_time_left_is_what_the_steps_so_far_took(tmp_path):
    steps = ({"s": 50.0 + 2 * done, "stage": "router", "epoch": 0, "done": 30 + done, "total": 100,
                                        "loss": 1.0, "held_out": None} for done in range(11))
    training = written(tmp_path, BEGAN, *steps)
    with training.file.open("rb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        seen = training.look()
    assert seen.running and seen.left_s == pytest.approx(60 * 2.0), "one that goes on from step 30 counts from there"
    assert training.look().left_s is None and training.progress.status == "failed"


def test_a_process_that_dies_without_an_outcome_leaves_its_last_words(tmp_path):
    training = Retraining("shop", tmp_path)
    training.start([sys.executable, "-c", "import sys; sys.exit('retune: shop has no bundle; make one.')"])
    end = time.monotonic() + 20
    while training.look().running and time.monotonic() < end:
        time.sleep(0.02)
    assert (training.progress.status, training.progress.words) == ("failed", "shop has no bundle; make one.")


def test_two_retrainings_of_one_domain_are_refused_also_from_another_app(tmp_path):
    first, other = Retraining("shop", tmp_path), Retraining("shop", tmp_path)
    first.start([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        for training in (first, other):
            with pytest.raises(DataError, match="shop is being retrained already"):
                training.start([sys.executable, "-c", ""])
        assert other.look().running and other.progress.pid == first.progress.pid
    finally:
        other.stop()
    assert not first.look().running and first.progress.status == other.progress.status == "stopped"


def test_a_line_that_was_cut_or_means_nothing_is_no_end(tmp_path):
    training = written(tmp_path, BEGAN, "[1, 2]", {"stage": 3}, '{"s": 1.0, "note": "one', {"s": 2.0, "note": "two"})
    with training.file.open("rb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        assert training.look().note == "two" and training.progress.running
        with training.file.open("a", encoding="utf-8") as more:
            more.write('{"s": 3.0, "no')
        assert training.look().note == "two"
        with training.file.open("a", encoding="utf-8") as more:
            more.write('te": "three"}\n')
        assert training.look().note == "three"


def test_a_curve_falls_from_left_to_right_and_marks_stand_over_it():
    rows = curve.plot([(x, 10 - x) for x in range(11)], [(10, 10.0)], width=10, height=3)
    assert [len(row) for row in rows] == [10, 10, 10] and rows[0][-1] == curve.MARK
    assert rows[0][0] != " " and rows[2][-1] != " " and rows[2][0] == rows[0][-2] == " "
    half = curve.plot([(x, 1.0) for x in range(6)], [], width=10, height=3, end=10)
    assert half[1].strip() and len(half[1].rstrip()) in (5, 6), "what has not come yet is left free"
    assert curve.plot([], [], 4, 2) == ["    ", "    "]


def test_bars_point_to_their_side_and_are_as_long_as_their_share():
    assert bars.bar(1.0, 4) == ("    ", "████") and bars.bar(-1.0, 4) == ("████", "    ")
    assert bars.bar(-0.5, 4) == ("  ██", "    ") and bars.bar(0.5, 4) == ("    ", "██  ")
    assert bars.bar(0.0, 4) == ("    ", "    ")
    assert bars.interval(Moved("x", 9, 0.5, 0.6, 0.1, -0.05, 0.25)) == "-5.0 to +25.0"
