"""When each domain is to learn and how: `schedule.toml` in the home, read and checked.

Knows cron times; does not know whether a run was done (that is `tuning.runs`) or what would make one due otherwise.
"""

import os
import tomllib
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from agent.errors import SettingsError

FILE = "schedule.toml"
EXAMPLE = """\
# When each domain learns from what was said: one table a domain, named as in `retune chat DOMAIN`, or with the path of its
# folder in quotes. `retune tick` does what is due and leaves; `retune schedule` stays and keeps the time.

[{domain}]
cron = "0 3 * * *"   # minute hour day month weekday; "" never by the clock. A missed time is made up for once
timezone = "UTC"     # of the cron times, such as "Europe/Berlin"
rows = 50            # learn as soon as so many reviewed rows are new; 0 never
drift = true         # learn when people's questions are no longer those that the champion knew
recipe = "default"   # a shipped recipe or a .toml file
canary_share = 0.0   # of the sessions that a new bundle serves before it becomes champion; 0: champion at once
canary_hours = 24    # so long at least
threads = 1          # CPU threads for training, so that the chat stays usable; 0: all
nice = 10            # how far training steps back behind other programs, 0 to 19
"""
_BOUNDS = {"rows": (0, None), "canary_share": (0, 0.5), "canary_hours": (0, None), "threads": (0, None), "nice": (0, 19)}
_WANTED = {str: "a text in quotes", bool: "true or false", int: "a whole number", float: "a number"}


@dataclass(frozen=True, slots=True)
class Plan:
    """How one domain learns by itself; the defaults are those of EXAMPLE."""

    domain: str
    """A shipped name or a folder, as the table is headed."""
    cron: str = "0 3 * * *"
    timezone: str = "UTC"
    rows: int = 50
    drift: bool = True
    recipe: str = "default"
    canary_share: float = 0.0
    canary_hours: float = 24.0
    threads: int = 1
    nice: int = 10

    def before(self, now: datetime) -> str | None:
        """The newest cron time up to now, as the name of a window; None without cron.

        Named by the wall clock: an hour that comes twice when summer ends is one window.
        """
        if not self.cron:
            return None
        from croniter import croniter

        # croniter looks strictly before
        time = croniter(self.cron, self._there(now) + timedelta(microseconds=1)).get_prev(datetime)
        return f"cron {time:%Y-%m-%d %H:%M} {self.timezone}"

    def after(self, now: datetime) -> datetime | None:
        """The next cron time, in UTC; None without cron."""
        if not self.cron:
            return None
        from croniter import croniter

        time: datetime = croniter(self.cron, self._there(now)).get_next(datetime)
        return time.astimezone(UTC)

    def _there(self, now: datetime) -> datetime:
        assert now.tzinfo, f"{now} has no time zone"
        return now.astimezone(ZoneInfo(self.timezone))


def load(home: Path) -> dict[str, Plan]:
    """Table's name -> Plan; SettingsError names file, table and key and says what would do."""
    file = home / FILE
    try:
        tables = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SettingsError(f"There is no {file}; write one with `retune schedule --init`.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file} is not valid TOML ({error}); correct it or move it away.") from error
    return {name: _plan(name, table, file) for name, table in tables.items()}


def write_example(home: Path, domain: str) -> Path:
    """A commented schedule.toml for this domain; SettingsError if there is one already."""
    file = home / FILE
    home.mkdir(parents=True, exist_ok=True)
    try:
        with file.open("x", encoding="utf-8") as stream:
            stream.write(EXAMPLE.format(domain=domain if domain.isidentifier() else f"'{domain}'"))
            stream.flush()
            os.fsync(stream.fileno())
    except FileExistsError as error:
        raise SettingsError(f"{file} is there already; edit it, or move it away first.") from error
    return file


def _plan(name: str, table: Any, file: Path) -> Plan:
    if not isinstance(table, dict):
        raise SettingsError(f"{file}: {name!r} stands outside of a domain's table; put it below a line such as [finance].")
    kinds = {field.name: field.type for field in fields(Plan) if field.name != "domain"}
    for key, value in table.items():
        if key not in kinds:
            raise SettingsError(f"{file}, [{name}]: there is no key {key!r}; known keys: {', '.join(kinds)}.")
        kind = kinds[key]
        fits = isinstance(value, int | float) if kind is float else isinstance(value, kind)  # type: ignore[arg-type]
        if not fits or (isinstance(value, bool) and kind is not bool):
            raise SettingsError(f"{file}, [{name}]: {key} is {value!r}; it must be {_WANTED[kind]}.")  # type: ignore[index]
        low, high = _BOUNDS.get(key, (None, None))
        if low is not None and not (low <= value and (high is None or value <= high)):  # nan is refused too
            upto = "at least 0" if high is None else f"from {low} to {high}"
            raise SettingsError(f"{file}, [{name}]: {key} is {value!r}; it must be {upto}.")
    plan = Plan(name, **table)
    _check_times(plan, f"{file}, [{name}]")
    return plan


def _check_times(plan: Plan, place: str) -> None:
    from croniter import CroniterError

    try:
        ZoneInfo(plan.timezone)
    except (KeyError, ValueError, OSError) as error:
        raise SettingsError(f"{place}: there is no timezone {plan.timezone!r}; use one such as \"Europe/Berlin\".") from error
    try:
        if plan.cron and len(plan.cron.split()) != 5:
            raise ValueError("it needs five fields")
        plan.before(datetime.now(UTC))
    except (CroniterError, ValueError, KeyError, AttributeError) as error:
        raise SettingsError(f"{place}: cron is {plan.cron!r} ({error}); it must be minute, hour, day, month and weekday, such "
                            "as \"0 3 * * *\".") from error
