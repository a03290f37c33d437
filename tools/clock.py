"""What time it is, and whether the desk is open.

Knows the domain's weekly hours; does not know bank holidays.
"""

from datetime import timedelta
from itertools import groupby
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from langchain_core.runnables import RunnableConfig
from langchain_core.tools import ToolException, tool
from pydantic import BaseModel, Field

from tools import dates, tables, wording


class Zone(BaseModel):
    zone: str = Field(
        "", max_length=60, description="time zone such as Europe/Dublin; empty: where the desk is"
    )


@tool(args_schema=Zone)
def now(config: RunnableConfig, zone: str = "") -> dict[str, Any]:
    """The current day and time."""
    zone = zone or dates.zone(config)
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # OSError: a name that is a folder
        raise ToolException(
            f"I do not know the time zone {zone!r}; name it like Europe/Dublin."
        ) from None
    moment = dates.now(config, zone)
    return {
        "summary": f"It is {wording.weekday(moment.date())}, {wording.clock(moment)} ({zone}).",
        "data": {"now": moment.isoformat(), "zone": zone},
    }


class Nothing(BaseModel):
    pass


@tool(args_schema=Nothing)
def opening_hours(config: RunnableConfig) -> dict[str, Any]:
    """The weekly opening hours, and whether it is open now."""
    zone = dates.zone(config)
    moment = dates.now(config, zone)
    week = tables.rows(config, "hours")
    opened = is_open(config)
    return {
        "summary": (
            f"Opening hours are {_week(week)} ({zone} time). "
            f"It is {wording.weekday(moment.date())}, {wording.clock(moment)} there: "
            f"{_state(config)}."
        ),
        "data": {
            "zone": zone,
            "open": opened,
            "week": {row["weekday"]: [row["opens"], row["closes"]] for row in week},
        },
    }


def is_open(config: RunnableConfig) -> bool:
    """Whether the desk is open at the moment of this turn."""
    moment = dates.now(config, dates.zone(config))
    hours = dates.opening(config, moment.date())
    return hours is not None and hours[0] <= moment.time() < hours[1]


def _week(week: tuple[tables.Row, ...]) -> str:
    parts = []
    for (opens, closes), same in groupby(week, lambda row: (row["opens"], row["closes"])):
        days = [row["weekday"] for row in same]
        name = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
        parts.append(f"{name} {opens} to {closes}" if opens else f"closed on {name}")
    return wording.listed(parts)


def _state(config: RunnableConfig) -> str:
    moment = dates.now(config, dates.zone(config))
    hours = dates.opening(config, moment.date())
    if hours and is_open(config):
        return f"open now, until {hours[1]:%H:%M}"
    for ahead in range(8):
        day = moment.date() + timedelta(days=ahead)
        hours = dates.opening(config, day)
        if hours and (ahead or moment.time() < hours[0]):
            return f"closed now, opens on {wording.weekday(day)} at {hours[0]:%H:%M}"
    return "closed now"
