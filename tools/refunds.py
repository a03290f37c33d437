"""The shop's rules on returns and refunds, and what an order cost.

Knows the days in `policy.csv` and the items of an order; does not know who asks, and pays nothing
itself. Money is in euro cents.
"""

from datetime import date, timedelta

from langchain_core.runnables import RunnableConfig
from langchain_core.tools import ToolException
from sqlalchemy import Connection, RowMapping, select

from tools import dates, tables, wording
from tools.database import items

OPEN = ("placed", "packed")  # nothing has left the warehouse yet
FAULTS = ("damaged", "wrong item", "not as described")


def lines(at: Connection, order: str) -> list[RowMapping]:
    """The items of an order."""
    return list(at.execute(select(items).where(items.c.order == order)).mappings())


def total(at: Connection, row: RowMapping) -> int:
    """What an order cost with delivery, in cents."""
    return int(row["delivery_cents"]) + _price(lines(at, row["order"]))


def rule(config: RunnableConfig, name: str) -> int:
    """A number of days from `policy.csv`."""
    return int(next(row["days"] for row in tables.rows(config, "policy") if row["rule"] == name))


def return_by(config: RunnableConfig, row: RowMapping) -> date:
    """The last day to send things back; refuses an order not received yet, or undone."""
    order, status = row["order"], row["status"]
    if status in ("refund pending", "refunded"):
        raise ToolException(f"Order {order} is being undone already. {standing(config, row)}")
    if status == "cancelled":
        raise ToolException(f"Order {order} was cancelled, so there is nothing to send back.")
    if status != "delivered":
        raise ToolException(
            f"Order {order} has not been delivered yet, so there is nothing to send back; it is "
            f"due by {wording.day(row['due'])}."
        )
    return date.fromisoformat(row["delivered"]) + timedelta(days=rule(config, "return_days"))


def owed(at: Connection, row: RowMapping, reason: str, config: RunnableConfig) -> int:
    """The cents to pay back for this reason, or the sentence why not."""
    order = row["order"]
    if row["status"] in OPEN:
        raise ToolException(f"Order {order} has not been sent yet; it can simply be cancelled.")
    if reason == "never arrived":
        _must_be_lost(config, row)
        return total(at, row)
    last = return_by(config, row)
    if dates.today(config) > last:
        raise ToolException(
            f"Refunds for order {order} could be asked for until {wording.day(last)}; for a fault "
            "after that day the warranty may help, and a colleague can look at it."
        )
    if reason in FAULTS:
        return total(at, row)
    cents = _price([each for each in lines(at, order) if each["returnable"] == "yes"])
    if not cents:
        raise ToolException(f"Nothing in order {order} can be sent back for a change of mind.")
    return cents


def standing(config: RunnableConfig, row: RowMapping) -> str:
    """Where a refund that was asked for stands, in one sentence."""
    money, order = wording.euros(row["refund_cents"]), row["order"]
    if row["refunded"]:
        return f"{money} for order {order} was paid back on {wording.day(row['refunded'])}."
    days = rule(config, "refund_days")
    asked = date.fromisoformat(row["refund_asked"])
    said = f"{money} for order {order} was asked for on {wording.day(asked)}"
    if row["reason"] == "changed my mind":
        return f"{said} and is paid within {days} working days of the return reaching us."
    due = working_days(asked, days)
    if dates.today(config) > due:
        return (
            f"{said} and should have been paid by {wording.day(due)}; a colleague can look into it."
        )
    return f"{said} and will be paid by {wording.day(due)}."


def working_days(start: date, days: int) -> date:
    """The day that many working days later (Monday to Friday; bank holidays are not known)."""
    while days:
        start += timedelta(days=1)
        days -= start.weekday() < 5
    return start


def _price(held: list[RowMapping]) -> int:
    return sum(int(each["quantity"]) * int(each["price_cents"]) for each in held)


def _must_be_lost(config: RunnableConfig, row: RowMapping) -> None:
    """Refuse a parcel that may still come, or that the courier says was handed over."""
    order, due = row["order"], date.fromisoformat(row["due"])
    if row["status"] == "delivered":
        raise ToolException(
            f"{row['carrier']} says that order {order} was delivered on "
            f"{wording.day(row['delivered'])}; a colleague has to trace it before it is paid back."
        )
    patience = due + timedelta(days=rule(config, "late_days"))
    if dates.today(config) <= patience:
        raise ToolException(
            f"Order {order} is on its way and due by {wording.day(due)}; if it is not there after "
            f"{wording.day(patience)}, ask again and we pay it back."
        )
