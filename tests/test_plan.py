"""schedule.toml: its times are those of the wall clock there, and a mistake in it is named with what would do."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent.errors import SettingsError
from tuning import plan as plans
from tuning.plan import Plan


@pytest.mark.parametrize("night", [datetime(2026, 3, 28, 12, tzinfo=UTC), datetime(2026, 10, 24, 12, tzinfo=UTC)])
def test_a_night_in_which_the_clocks_change_has_one_window(night: datetime) -> None:
    plan = Plan("shop", cron="30 2 * * *", timezone="Europe/Berlin")
    windows = {plan.before(night + timedelta(minutes=10 * step)) for step in range(144)}
    assert len(windows) == 2  # the day before, and this night


def written(home: Path, text: str) -> Path:
    (home / plans.FILE).write_text(text, encoding="utf-8")
    return home / plans.FILE


def test_the_example_is_the_defaults_and_is_not_written_twice(home: Path) -> None:
    plans.write_example(home, "finance")
    assert plans.load(home) == {"finance": Plan("finance")}
    with pytest.raises(SettingsError, match="is there already; edit it"):
        plans.write_example(home, "finance")


def test_a_domain_may_be_a_folder(home: Path) -> None:
    plans.write_example(home, "./my shop")
    assert list(plans.load(home)) == ["./my shop"]


def test_without_a_schedule_one_is_told_how_to_write_one(home: Path) -> None:
    with pytest.raises(SettingsError, match="write one with `retune schedule --init`"):
        plans.load(home)


@pytest.mark.parametrize(("line", "said"), [
    ("hour = 3", "there is no key 'hour'; known keys: cron, timezone, rows"),
    ("rows = '50'", "rows is '50'; it must be a whole number"),
    ("rows = -1", "rows is -1; it must be at least 0"),
    ("rows = true", "rows is True; it must be a whole number"),
    ("drift = 1", "drift is 1; it must be true or false"),
    ("canary_share = 0.9", "canary_share is 0.9; it must be from 0 to 0.5"),
    ("canary_hours = nan", "canary_hours is nan; it must be at least 0"),
    ("cron = '0 25 * * *'", "cron is '0 25 * * *'"),
    ("cron = '0 0 30 2 *'", "cron is '0 0 30 2 *'"),
    ("cron = '* * * * * *'", "it must be minute, hour, day, month and weekday"),
    ("cron = 'H H * * *'", "cron is 'H H * * *'"),
    ("timezone = 'Mars/Olympus'", "there is no timezone 'Mars/Olympus'"),
    ("timezone = '../etc/passwd'", "there is no timezone"),
])
def test_a_mistake_in_the_schedule_names_file_table_key_and_remedy(home: Path, line: str, said: str) -> None:
    file = written(home, f"[finance]\n{line}\n")
    with pytest.raises(SettingsError) as caught:
        plans.load(home)
    assert str(caught.value).startswith(f"{file}, [finance]: ") and said in str(caught.value)


@pytest.mark.parametrize(("text", "said"), [("rows = 5", "stands outside of a domain's table"), ("[a", "is not valid TOML")])
def test_a_schedule_that_is_none_is_refused(home: Path, text: str, said: str) -> None:
    written(home, text)
    with pytest.raises(SettingsError, match=said):
        plans.load(home)
