"""What time it is for this turn, and a domain's weekly hours.

Knows `config["configurable"]["now"]` (for replays and tests) and `hours.csv` (weekday, opens,
closes, zone). Does not know what is done in those hours.
"""

from datetime import UTC, date, datetime, time
from zoneinfo import ZoneInfo

from langchain_core.runnables import RunnableConfig

from tools import tables, wording


def now(config: RunnableConfig, zone: str = "UTC") -> datetime:
    """The moment of this turn, aware, in the zone; the real clock if the turn brought none."""
    moment = config.get("configurable", {}).get("now") or datetime.now(UTC)
    assert moment.tzinfo, f"now must be aware, got {moment!r}"
    return moment.astimezone(ZoneInfo(zone))


def zone(config: RunnableConfig) -> str:
    """The time zone of the domain's hours, or UTC for a domain without hours."""
    if not (tables.folder(config) / "hours.csv").exists():
        return "UTC"
    return tables.rows(config, "hours")[0]["zone"]


def today(config: RunnableConfig) -> date:
    """The day of this turn where the domain's desk is."""
    return now(config, zone(config)).date()


def opening(config: RunnableConfig, when: date) -> tuple[time, time] | None:
    """Opening and closing time on that day, None where closed."""
    row = tables.rows(config, "hours")[when.weekday()]
    assert row["weekday"] == wording.WEEKDAYS[when.weekday()], f"hours.csv out of order: {row}"
    if not row["opens"]:
        return None
    return time.fromisoformat(row["opens"]), time.fromisoformat(row["closes"])
