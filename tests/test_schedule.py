"""What is due is done once, whoever ticks and however often; what was missed is made up for once."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agent.domain import Domain
from agent.errors import DataError
from agent.registry import Registry
from agent.settings import Settings
from agent.store import Store
from agent.surfaces.schedule import app
from agent.types import Route, Turn
from tuning import plan as plans
from tuning import runs, schedule
from tuning.plan import Plan
from tuning.rows import Row
from tuning.runs import Outcome, Run
from tuning.schedule import keep_time, tick

ROOT = Path(__file__).parent.parent
NOON = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
CLOCK_ALONE = Plan("shop", rows=0, drift=False)
ROWS_ALONE = Plan("shop", cron="", rows=3, drift=False)


@dataclass
class Rows:
    """What was gathered."""

    router: list[Row] = field(default_factory=list)
    generator: list[Row] = field(default_factory=list)
    hash: str = "h0"

    def grow(self, count: int) -> None:
        """So many rows more, learned today."""
        start = len(self.router)
        today = datetime.now(UTC).isoformat()
        self.router += [Row("router", "intent", f"question {n}", "returns", created=today) for n in range(start, start + count)]
        self.hash = f"h{len(self.router)}"


@pytest.fixture
def domain(tmp_path: Path) -> Domain:
    """A domain "shop" with a champion that was made yesterday."""
    made = tmp_path / "shop"
    made.mkdir()
    (made / "domain.toml").write_text('name = "shop"\npersona = "p"\nunknown = "u"\n[intents.returns]\nanswer = "docs"\n',
                                      encoding="utf-8")
    (made / "intents.jsonl").write_text('{"text": "send it back", "intent": "returns"}\n', encoding="utf-8")
    for name in ("oos.jsonl", "dialogues.jsonl"):
        (made / name).touch()
    (tmp_path / "built" / "router").mkdir(parents=True)
    (tmp_path / "built" / "router" / "head.json").write_text("{}", encoding="utf-8")
    loaded = Domain.load(made)
    yesterday = (datetime.now(UTC) - timedelta(days=1)).isoformat(timespec="seconds")
    Registry(loaded, tmp_path / "unused").publish(tmp_path / "built", {"made": yesterday, "domain": "shop"}, loaded.models)
    return loaded


@pytest.fixture
def settings(home: Path) -> Settings:
    return Settings.load(home=home)


@pytest.fixture
def store(settings: Settings):
    with closing(Store(settings.database_url)) as made:
        made.open()
        yield made


@pytest.fixture
def at(domain: Domain, settings: Settings, store: Store):
    """tick(now, plan, job) with rows that the test may grow; `.rows` and `.done` show what was seen."""

    class Ticking:
        rows, done, gathered = Rows(), [], 0

        def __call__(self, now: datetime = NOON, plan: Plan = CLOCK_ALONE, job: Callable[[Run], Outcome] | None = None, **more):
            return tick(domain, store, settings, now, job or self.job, plan, self.gather, **more)

        def job(self, run: Run) -> Outcome:
            self.done.append(run.window)
            return Outcome("refused", "no better")

        def gather(self) -> Rows:
            self.gathered += 1
            return self.rows

    Ticking.done = []
    Ticking.rows = Rows()
    return Ticking()


def say_something(store: Store, count: int) -> None:
    """So many turns with a thumb each."""
    for number in range(count):
        store.log(Turn(f"t{number}", f"s{number}", "shop", "shop@0001", "q", "q", Route("returns", 0.9, (), 0.1), "answered",
                       "returns"), {})
        store.feedback(f"t{number}", "ann", "up")


# ---- the clock

def test_a_window_is_done_once_however_often_one_ticks(at) -> None:
    first, again, later = at(), at(), at(NOON + timedelta(hours=5))
    assert [result.table() for result in first] == [{
        "job": "retrain shop", "window": "cron 2026-05-04 03:00 UTC", "why": "it is due by the clock (0 3 * * *, UTC)",
        "status": "refused", "bundle": None, "words": "no better"}]
    assert (again, later, at.done) == ([], [], ["cron 2026-05-04 03:00 UTC"])


def test_of_missed_windows_only_the_newest_is_done(at) -> None:
    at(NOON)
    at.rows.grow(1)
    at(NOON + timedelta(days=9))
    assert at.done == ["cron 2026-05-04 03:00 UTC", "cron 2026-05-13 03:00 UTC"]


def test_a_time_counts_from_its_very_minute(at) -> None:
    three = datetime(2026, 5, 4, 3, 0, tzinfo=UTC)
    at(three - timedelta(seconds=1))
    at.rows.grow(1)
    at(three)
    assert at.done == ["cron 2026-05-03 03:00 UTC", "cron 2026-05-04 03:00 UTC"]


def test_cron_times_are_those_of_the_time_zone_that_was_said(at) -> None:
    at(datetime(2026, 5, 4, 1, 30, tzinfo=UTC), Plan("shop", timezone="Europe/Berlin", rows=0, drift=False))
    assert at.done == ["cron 2026-05-04 03:00 Europe/Berlin"]


def test_the_clock_alone_does_nothing_with_the_very_rows_that_were_refused(at) -> None:
    at(NOON)
    (idle,) = at(NOON + timedelta(days=1))
    assert (idle.outcome.status, "nothing is new since" in idle.outcome.words, len(at.done)) == ("nothing", True, 1)
    at(NOON + timedelta(days=2), Plan("shop", rows=0, drift=False, recipe="other"))
    at.rows.grow(1)
    at(NOON + timedelta(days=3), Plan("shop", rows=0, drift=False, recipe="other"))
    assert len(at.done) == 3


TICKERS = """
import multiprocessing, sys, time
from datetime import UTC, datetime
from agent.domain import Domain
from agent.settings import Settings
from agent.store import Store
from tuning.plan import Plan
from tuning.runs import Outcome
from tuning.schedule import tick
folder, home, out = sys.argv[1:]
class Rows: router, generator, hash = [], [], "h"
def job(run):
    with open(out, "a") as stream:
        stream.write(f"{run.window} {run.token}\\n")
    time.sleep(0.05)
    return Outcome("promoted")
def work(barrier):
    settings = Settings.load(home=home)
    store = Store(settings.database_url); store.open()
    domain = Domain.load(folder)
    for day in (4, 5):
        barrier.wait()  # every window is ticked by eight at once
        tick(domain, store, settings, datetime(2026, 5, day, 12, tzinfo=UTC), job, Plan("shop", rows=0, drift=False), Rows)
    store.close()
made = multiprocessing.get_context("fork")  # eight processes for the price of one import
barrier = made.Barrier(8)
everyone = [made.Process(target=work, args=(barrier,)) for _ in range(8)]
for each in everyone: each.start()
for each in everyone: each.join()
sys.exit(any(each.exitcode for each in everyone))
"""


@pytest.mark.skipif(os.name != "posix", reason="needs fork")
def test_eight_processes_at_once_do_each_window_exactly_once(domain: Domain, home: Path, store: Store, tmp_path: Path) -> None:
    out = tmp_path / "done.txt"
    subprocess.run([sys.executable, "-c", TICKERS, str(domain.folder), str(home), str(out)], cwd=ROOT, check=True, timeout=120)
    assert out.read_text().splitlines() == ["cron 2026-05-04 03:00 UTC 1", "cron 2026-05-05 03:00 UTC 1"]
    assert [run.status for run in runs.latest(store)] == ["promoted"] * 2


# ---- the other reasons

def test_enough_new_rows_start_a_run_and_the_same_rows_no_second_one(at, store: Store) -> None:
    say_something(store, 9)
    at.rows.grow(2)
    assert at(plan=ROWS_ALONE) == []
    at.rows.grow(1)
    (result,) = at(plan=ROWS_ALONE)
    assert (result.window, result.why) == ("rows after shop@0001", "3 new reviewed rows, 3 are enough")
    at.rows.grow(2)
    assert at(plan=ROWS_ALONE) == []
    at.rows.grow(1)
    (result,) = at(plan=ROWS_ALONE)
    assert result.why == "3 new reviewed rows, 3 are enough" and len(at.done) == 2


def test_rows_are_not_gathered_before_there_is_enough_feedback(at, store: Store) -> None:
    say_something(store, 2)
    at(plan=ROWS_ALONE)
    assert at.gathered == 0


def test_a_clock_gathers_rows_again_only_after_something_changed(at, store: Store) -> None:
    say_something(store, 3)
    seen: dict[str, str] = {}
    for _ in range(3):
        at(plan=ROWS_ALONE, seen=seen)
    assert at.gathered == 1
    store.feedback("t1", "ann", "comment", "fine")
    at(plan=ROWS_ALONE, seen=seen)
    assert at.gathered == 2


def test_a_retraining_that_is_asked_for_needs_no_other_reason(at) -> None:
    (result,) = at(plan=ROWS_ALONE, asked="asked for by ann")
    assert (result.window, result.why) == ("asked 2026-05-04 12:00:00", "asked for by ann")


# ---- what goes wrong

def test_a_job_that_cannot_be_done_ends_as_failed_in_its_own_words_and_is_left_alone(at) -> None:
    def broken(run: Run) -> Outcome:
        raise DataError("The rows have one intent alone; label some of another.")

    (result,) = at(job=broken)
    assert (result.outcome.status, result.outcome.words) == ("failed", "The rows have one intent alone; label some of another.")
    assert at() == []


def test_a_surprise_in_a_job_is_a_failed_run_and_stands_in_the_log(at, caplog: pytest.LogCaptureFixture) -> None:
    (result,) = at(job=lambda run: {}["weights"])
    assert (result.outcome.status, result.outcome.words) == ("failed", "KeyError: 'weights'")
    assert "Traceback" in caplog.text


def test_a_job_that_is_told_to_stop_is_taken_up_by_the_next_tick(at, store: Store) -> None:
    def stopped(run: Run) -> Outcome:
        raise SystemExit(0)

    with pytest.raises(SystemExit):
        at(job=stopped)
    tokens = []
    (result,) = at(job=lambda run: (tokens.append(run.token), Outcome("promoted"))[1])
    assert (tokens, result.outcome.status) == ([2], "promoted")


def test_what_was_left_unfinished_goes_on_though_its_reason_is_gone(at, store: Store) -> None:
    def stopped(run: Run) -> Outcome:
        raise SystemExit(0)

    with pytest.raises(SystemExit):
        at(plan=ROWS_ALONE, job=stopped, asked="asked for by ann")
    (result,) = at(plan=ROWS_ALONE)
    assert (result.window, result.why, at.done) == ("asked 2026-05-04 12:00:00", "asked for by ann", [result.window])


def test_a_holder_who_was_overtaken_says_so_and_the_other_one_counts(at, store: Store) -> None:
    def slow(run: Run) -> Outcome:
        runs.release(store, run)
        other = runs.claim(store, run.job, run.window, "another machine")
        assert other
        runs.finish(store, other, "abstained")
        return Outcome("promoted")

    (result,) = at(job=slow)
    assert result.outcome.status == "failed" and "taken over" in result.outcome.words
    assert [run.status for run in runs.latest(store)] == ["abstained"]


# ---- the clock in process

def test_the_clock_ticks_at_cron_times_and_in_between() -> None:
    class Stop(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waited.append(timeout)
            times.append(times[-1] + timedelta(seconds=timeout or 0))
            return False

    waited: list[float | None] = []
    times, stop, ticked = [datetime(2026, 5, 4, 2, 58, 30, tzinfo=UTC)], Stop(), []
    for _ in keep_time([CLOCK_ALONE], lambda now: ticked.append(now) or [], stop, clock=lambda: times[-1]):
        if len(ticked) == 4:
            stop.set()
    assert waited[:3] == [60.0, 30.0, 60.0]
    assert [f"{time:%H:%M:%S}" for time in ticked] == ["02:58:30", "02:59:30", "03:00:00", "03:01:00"]


def retune(*words: str, home: Path) -> subprocess.Popen[str]:
    code = "from agent.surfaces.schedule import app; app()"
    return subprocess.Popen([sys.executable, "-c", code, *words], cwd=ROOT, text=True, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, env=os.environ | {"RETUNE_HOME": str(home)})


@pytest.mark.skipif(os.name != "posix", reason="needs SIGTERM")
def test_the_clock_leaves_at_once_when_it_is_told_to(domain: Domain, home: Path) -> None:
    (home / plans.FILE).write_text(f"['{domain.folder}']\ncron = ''\nrows = 0\ndrift = false\n", encoding="utf-8")
    clock = retune("schedule", home=home)
    try:
        assert clock.stdout and "keeping time" in clock.stdout.readline()
        clock.send_signal(signal.SIGTERM)
        clock.communicate(timeout=30)
        assert clock.returncode == 0
    finally:
        clock.kill()
        clock.wait()


def test_tick_prints_what_it_did_as_json_and_ends_well_when_nothing_is_due(domain: Domain, home: Path) -> None:
    (home / plans.FILE).write_text(f"['{domain.folder}']\ncron = ''\n", encoding="utf-8")
    run = retune("tick", "--json", home=home)
    out, err = run.communicate(timeout=60)
    assert (out.strip(), err, run.returncode) == ("[]", "", 0)


def test_stepping_back_is_to_a_place_not_by_a_step() -> None:
    code = "from tuning.schedule import step_back; import os; step_back(15); step_back(15); step_back(3); print(os.nice(0))"
    now = os.nice(0)
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert int(found) == max(15, now) and schedule.EVERY_S == 60


def test_runs_are_listed_newest_first_with_why_and_how_they_ended(at, domain: Domain) -> None:
    at()
    at(plan=ROWS_ALONE, asked="asked for by ann")
    shown = CliRunner().invoke(app, ["runs", str(domain.folder), "--json"])
    assert [(row["why"], row["status"], row["words"]) for row in json.loads(shown.stdout)] == [
        ("asked for by ann", "refused", "no better"), ("it is due by the clock (0 3 * * *, UTC)", "refused", "no better")]
    assert CliRunner().invoke(app, ["runs"]).stdout.count("no better") == 2


def test_a_domain_that_cannot_be_read_is_a_failed_result_and_holds_up_no_other(domain: Domain, home: Path) -> None:
    (home / plans.FILE).write_text(f"[nowhere]\n['{domain.folder}']\nrecipe = 'nowhere'\n", encoding="utf-8")
    shown = CliRunner().invoke(app, ["tick", "--json"])
    told = json.loads(shown.stdout)
    assert (shown.exit_code, [row["status"] for row in told]) == (1, ["failed"] * 2)
    assert told[0]["words"].startswith("There is no domain 'nowhere'") and "recipe" in told[1]["words"]
