"""Reminders to take a medicine, every day at a time.

Knows how a reminder is written down; rings nothing: a surface reads the `reminders` table.
"""

from typing import Any

from langchain_core.runnables import RunnableConfig
from langchain_core.tools import ToolException, tool
from pydantic import BaseModel, Field
from sqlalchemy import Connection, insert

from tools import database, dates, tables
from tools.database import reminders


class Reminder(BaseModel):
    medicine: str = Field(
        min_length=2, max_length=80, description="name of the medicine, generic or brand"
    )
    time: str = Field(
        pattern=r"^([01]\d|2[0-3]):[0-5]\d$", description="time of day, HH:MM, 24 hours"
    )


@tool(args_schema=Reminder)
def set_reminder(medicine: str, time: str, config: RunnableConfig) -> dict[str, Any]:
    """Set a daily reminder to take a medicine."""
    row = tables.find(config, "medicines", medicine)
    if row is None:
        raise ToolException(
            f"{medicine} is not in our table of medicines; check the spelling and try again."
        )

    def work(at: Connection) -> dict[str, Any]:
        number = f"RM-{database.next_number(at, reminders.c.reminder, 3001)}"
        said = {"reminder": number, "medicine": row["name"], "time": time}
        at.execute(insert(reminders).values(**said, made=dates.today(config).isoformat()))
        return {
            "summary": f"Reminder {number} is set: take {row['name']} every day at {time}.",
            "data": said,
        }

    return database.change(config, "set_reminder", work)


set_reminder.metadata = {"changes": True}
