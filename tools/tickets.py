"""Complaints as tickets that a colleague answers.

Knows how a ticket is filed; does not know who reads it or when.
"""

from typing import Any

from langchain_core.runnables import RunnableConfig
from langchain_core.tools import tool
from pydantic import BaseModel, Field
from sqlalchemy import Connection, insert

from tools import database, dates, wording
from tools.database import tickets


class Complaint(BaseModel):
    summary: str = Field(
        min_length=3, max_length=2000, description="what went wrong, in the customer's own words"
    )


@tool(args_schema=Complaint)
def open_ticket(summary: str, config: RunnableConfig) -> dict[str, Any]:
    """Open a ticket for a complaint, for a colleague to answer."""

    def work(at: Connection) -> dict[str, Any]:
        ticket = f"TK-{database.next_number(at, tickets.c.ticket, 5001)}"
        opened = dates.today(config).isoformat()
        at.execute(
            insert(tickets).values(
                ticket=ticket, opened=opened, status="open", summary=summary.strip()
            )
        )
        return {
            "summary": (
                f"Ticket {ticket} is open since {wording.day(opened)}. A colleague will read it "
                "and answer."
            ),
            "data": {"ticket": ticket, "opened": opened, "status": "open"},
        }

    return database.change(config, "open_ticket", work)


open_ticket.metadata = {"changes": True}
