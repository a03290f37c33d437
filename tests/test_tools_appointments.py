"""Appointments and reminders: only real slots, each given once."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from langchain_core.tools import ToolException
from pydantic import ValidationError
from sqlalchemy import select

from tools import database
from tools.appointments import book_appointment, cancel_appointment
from tools.reminders import set_reminder

DATA = Path(__file__).parent.parent / "domains" / "medical" / "data"


@pytest.fixture
def config(tmp_path):
    """A turn at the clinic on Friday 20 November 2026, 09:05 in New York."""

    def turn(key="k1"):
        now = datetime(2026, 11, 20, 14, 5, tzinfo=UTC)
        return {"configurable": {"data": DATA, "state": tmp_path, "key": key, "now": now}}

    return turn


def book(config, day, time, key="k1"):
    return book_appointment.invoke({"day": day, "time": time, "reason": "sore knee"}, config(key))


def test_a_free_slot_is_booked_and_then_taken(config):
    done = book(config, "2026-11-24", "10:00")
    assert "Tuesday 24 November 2026 at 10:00" in done["summary"]
    assert done["data"]["appointment"] == "AP-2070"
    with pytest.raises(ToolException, match="is taken; the next free times are"):
        book(config, "2026-11-24", "10:00", key="k2")


def test_the_same_key_books_once(config):
    assert book(config, "2026-11-24", "10:00") == book(config, "2026-11-24", "10:00")
    with database.transaction(config()) as at:
        rows = at.execute(
            select(database.appointments).where(database.appointments.c.reason == "sore knee")
        ).all()
    assert len(rows) == 1


@pytest.mark.parametrize(
    ("day", "time", "why"),
    [
        ("2026-11-24", "09:00", "is taken.*at 09:40"),
        (
            "2026-11-22",
            "10:00",
            "closed on Sunday 22 November 2026.*Monday 23 November 2026 at 09:00",
        ),
        ("2026-11-20", "08:00", "is past.*Friday 20 November 2026 at 09:20"),
        ("2026-11-24", "10:10", "every 20 minutes.*at 10:20"),
        ("2026-11-24", "17:00", "closes at 17:00.*Wednesday 25 November 2026"),
        ("2027-11-24", "10:00", "up to 90 days ahead"),
    ],
)
def test_what_cannot_be_booked_is_refused_with_the_next_free_times(config, day, time, why):
    with pytest.raises(ToolException, match=why):
        book(config, day, time)


@pytest.mark.parametrize(("day", "time"), [("2026-02-30", "10:00"), ("2026-11-24", "25:00")])
def test_an_impossible_day_or_time_is_a_validation_error(config, day, time):
    with pytest.raises(ValidationError):
        book(config, day, time)


def test_a_cancelled_slot_is_free_again(config):
    cancel_appointment.invoke({"appointment": "AP-2041"}, config("c1"))
    assert book(config, "2026-11-27", "11:00")["data"]["time"] == "11:00"


@pytest.mark.parametrize(
    ("appointment", "why"), [("AP-9999", "no appointment AP-9999"), ("AP-2031", "is past")]
)
def test_an_appointment_unknown_or_past_is_not_cancelled(config, appointment, why):
    with pytest.raises(ToolException, match=why):
        cancel_appointment.invoke({"appointment": appointment}, config())


def test_an_appointment_is_cancelled_once(config):
    cancel_appointment.invoke({"appointment": "AP-2041"}, config("c1"))
    with pytest.raises(ToolException, match="cancelled already"):
        cancel_appointment.invoke({"appointment": "AP-2041"}, config("c2"))


def test_a_reminder_is_kept_once_under_the_canonical_name(config):
    slots = {"medicine": "Synthroid", "time": "08:00"}
    done = set_reminder.invoke(slots, config())
    assert set_reminder.invoke(slots, config()) == done
    assert "levothyroxine every day at 08:00" in done["summary"]
    with database.transaction(config()) as at:
        assert len(at.execute(select(database.reminders)).all()) == 1


def test_a_reminder_for_an_unknown_medicine_is_explained(config):
    with pytest.raises(ToolException, match="not in our table"):
        set_reminder.invoke({"medicine": "unobtainium", "time": "08:00"}, config())
