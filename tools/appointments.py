"""Appointments at the clinic: booked in free slots of its opening hours, and cancelled.

Knows the grid of slots and what is taken; does not know doctors, rooms, bank holidays or how urgent
it is.
"""

from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from itertools import islice
from typing import Any

from langchain_core.runnables import RunnableConfig
from langchain_core.tools import ToolException, tool
from pydantic import BaseModel, Field
from sqlalchemy import Connection, insert, select, update

from tools import database, dates, wording
from tools.database import appointments

SLOT = timedelta(minutes=20)
AHEAD = 90  # days that can be booked in advance


class Booking(BaseModel):
    day: date = Field(description="day of the appointment, YYYY-MM-DD")
    time: str = Field(
        pattern=r"^([01]\d|2[0-3]):[0-5]\d$", description="time of the appointment, HH:MM, 24 hours"
    )
    reason: str = Field(min_length=2, max_length=500, description="what it is about, a few words")


class Booked(BaseModel):
    appointment: str = Field(
        pattern=r"^AP-\d{4}$",
        description="appointment number, AP- and four digits, such as AP-2041",
    )


@tool(args_schema=Booking)
def book_appointment(day: date, time: str, reason: str, config: RunnableConfig) -> dict[str, Any]:
    """Book an appointment at the clinic, on a day and at a time."""
    when = _moment(day, time)

    def work(at: Connection) -> dict[str, Any]:
        _must_be_free(at, config, when)
        number = f"AP-{database.next_number(at, appointments.c.appointment, 2001)}"
        row = {"appointment": number, "day": day.isoformat(), "time": time, "status": "booked"}
        at.execute(insert(appointments).values(reason=reason.strip(), **row))
        return {
            "summary": f"Appointment {number} is booked for {_say(when)}, for: {reason.strip()}.",
            "data": {**row, "reason": reason.strip()},
        }

    return database.change(config, "book_appointment", work)


@tool(args_schema=Booked)
def cancel_appointment(appointment: str, config: RunnableConfig) -> dict[str, Any]:
    """Cancel an appointment at the clinic."""

    def work(at: Connection) -> dict[str, Any]:
        mine = appointments.c.appointment == appointment
        row = at.execute(select(appointments).where(mine)).mappings().first()
        if row is None:
            raise ToolException(
                f"There is no appointment {appointment}; please check the number in your "
                "confirmation."
            )
        when = _moment(date.fromisoformat(row["day"]), row["time"])
        if row["status"] == "cancelled":
            raise ToolException(f"Appointment {appointment} on {_say(when)} was cancelled already.")
        if when <= _now(config):
            raise ToolException(
                f"Appointment {appointment} was on {_say(when)} and is past; I can book a new one."
            )
        at.execute(update(appointments).where(mine).values(status="cancelled"))
        return {
            "summary": f"Appointment {appointment} on {_say(when)} is cancelled.",
            "data": {
                "appointment": appointment,
                "day": row["day"],
                "time": row["time"],
                "status": "cancelled",
            },
        }

    return database.change(config, "cancel_appointment", work)


for _each in (book_appointment, cancel_appointment):
    _each.metadata = {"changes": True}


def _must_be_free(at: Connection, config: RunnableConfig, when: datetime) -> None:
    """Refuse a moment that cannot be booked, with the next ones that can."""
    now = _now(config)
    hours = dates.opening(config, when.date())
    if when <= now:
        trouble, start = f"{_say(when)} is past", now
    elif when.date() > now.date() + timedelta(days=AHEAD):
        raise ToolException(
            f"Appointments can be booked up to {AHEAD} days ahead, until "
            f"{wording.day(now.date() + timedelta(days=AHEAD))}."
        )
    elif hours is None:
        trouble, start = f"The clinic is closed on {wording.weekday(when.date())}", when
    elif when not in _slots(config, when.date()):
        trouble, start = (
            (
                f"On {wording.weekday(when.date())} appointments start from {hours[0]:%H:%M}, "
                f"every {SLOT.seconds // 60} minutes, until the clinic closes at {hours[1]:%H:%M}"
            ),
            max(when, now),
        )
    elif when in _taken(at):
        trouble, start = f"{_say(when)} is taken", when
    else:
        return
    free = wording.listed([_say(each) for each in islice(_free(at, config, start), 3)], "or")
    raise ToolException(f"{trouble}; the next free times are {free}.")


def _free(at: Connection, config: RunnableConfig, start: datetime) -> Iterator[datetime]:
    """Free slots after a moment, in order."""
    taken = _taken(at)
    for ahead in range(AHEAD + 1):
        for slot in _slots(config, start.date() + timedelta(days=ahead)):
            if slot > start and slot not in taken:
                yield slot


def _slots(config: RunnableConfig, day: date) -> list[datetime]:
    """Every start of a slot on that day; the last one ends when the clinic closes."""
    hours = dates.opening(config, day)
    if hours is None:
        return []
    first, end = (datetime.combine(day, each) for each in hours)
    return [first + n * SLOT for n in range((end - first) // SLOT)]


def _taken(at: Connection) -> set[datetime]:
    booked = select(appointments.c.day, appointments.c.time).where(
        appointments.c.status == "booked"
    )
    return {_moment(date.fromisoformat(day), clock) for day, clock in at.execute(booked)}


def _moment(day: date, clock: str) -> datetime:
    """Local time of the clinic, without a zone: the grid and the rows are local."""
    return datetime.combine(day, time.fromisoformat(clock))


def _now(config: RunnableConfig) -> datetime:
    return dates.now(config, dates.zone(config)).replace(tzinfo=None)


def _say(when: datetime) -> str:
    return f"{wording.weekday(when.date())} at {wording.clock(when)}"
