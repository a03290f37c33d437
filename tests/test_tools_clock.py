"""The clock and the weekly hours, in the zone of the desk."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from langchain_core.tools import ToolException

from tools.clock import is_open, now, opening_hours

DOMAINS = Path(__file__).parent.parent / "domains"


def config(moment, domain="customer_service"):
    when = datetime.fromisoformat(moment).replace(tzinfo=UTC)
    return {"configurable": {"data": DOMAINS / domain / "data", "now": when}}


@pytest.mark.parametrize(
    ("moment", "said"),
    [
        ("2026-11-20T14:05", "open now, until 20:00"),
        ("2026-11-20T20:00", "closed now, opens on Saturday 21 November 2026 at 09:00"),
        ("2026-11-21T17:30", "closed now, opens on Monday 23 November 2026 at 08:00"),
        ("2026-11-23T07:59", "closed now, opens on Monday 23 November 2026 at 08:00"),
        ("2026-07-01T07:30", "open now, until 20:00"),  # 08:30 in Dublin's summer
    ],
)
def test_the_desk_says_whether_it_is_open_and_when_next(moment, said):
    told = opening_hours.invoke({}, config(moment))
    assert said in told["summary"]
    assert told["data"]["open"] == is_open(config(moment)) == said.startswith("open")
    assert "Monday to Friday 08:00 to 20:00" in told["summary"]


def test_the_time_is_told_where_the_desk_is_or_where_asked():
    moment = "2026-11-20T14:05"
    assert "14:05 (Europe/Dublin)" in now.invoke({}, config(moment))["summary"]
    assert "09:05 (America/New_York)" in now.invoke({}, config(moment, "medical"))["summary"]
    assert "14:05 (UTC)" in now.invoke({}, config(moment, "finance"))["summary"]
    asked = now.invoke({"zone": "Asia/Shanghai"}, config(moment))["summary"]
    assert "Friday 20 November 2026, 22:05" in asked


@pytest.mark.parametrize("zone", ["Mars/Olympus", "../../etc/passwd", "Europe"])
def test_an_unknown_zone_is_explained(zone):
    with pytest.raises(ToolException, match="name it like Europe/Dublin"):
        now.invoke({"zone": zone}, config("2026-11-20T14:05"))


def test_without_a_moment_the_real_clock_counts():
    data = DOMAINS / "finance" / "data"
    told = now.invoke({}, {"configurable": {"data": data}})["data"]["now"]
    assert abs((datetime.now(UTC) - datetime.fromisoformat(told)).total_seconds()) < 60
