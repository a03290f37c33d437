"""Orders of the shop: where they are, and what may still be done with them.

Knows the orders and what may be done in which state; what is paid back, and until when, is in
`refunds`. Does not know who is asking: whoever has the number of an order may see it, so no summary
names the customer. Money is in euro cents until it is worded.
"""

from datetime import date
from typing import Any, Literal

from langchain_core.runnables import RunnableConfig
from langchain_core.tools import ToolException, tool
from pydantic import BaseModel, Field
from sqlalchemy import Connection, RowMapping, select, update

from tools import database, dates, refunds, wording
from tools.database import orders

CHANGES = {"changes": True}


class Order(BaseModel):
    order: str = Field(
        pattern=r"^LK-\d{5}$", description="order number, LK- and five digits, such as LK-10482"
    )


class NewAddress(Order):
    address: str = Field(
        min_length=8,
        max_length=300,
        description="the whole new delivery address: street, postcode, town, country",
    )


class Refund(Order):
    reason: Literal[
        "damaged", "wrong item", "not as described", "changed my mind", "never arrived"
    ] = Field(description="why the money should go back")


@tool(args_schema=Order)
def order_status(order: str, config: RunnableConfig) -> dict[str, Any]:
    """Where an order is and when it will arrive."""
    with database.transaction(config) as at:
        row = _row(at, order)
        goods = _goods(at, order)
    return {
        "summary": f"{_whereabouts(row, dates.today(config))} It holds {goods}.",
        "data": _data(row),
    }


@tool(args_schema=Order)
def cancel_order(order: str, config: RunnableConfig) -> dict[str, Any]:
    """Cancel an order that has not left the warehouse, and pay the money back."""

    def work(at: Connection) -> dict[str, Any]:
        row = _row(at, order)
        _must_be_open(row, "cancelled", "you can send it back after it arrives")
        today, cents = dates.today(config), refunds.total(at, row)
        values = {
            "ended": today.isoformat(),
            "refund_asked": today.isoformat(),
            "refund_cents": cents,
        }
        _set(at, order, status="cancelled", **values)
        due = refunds.working_days(today, refunds.rule(config, "refund_days"))
        return {
            "summary": (
                f"Order {order} is cancelled. {wording.euros(cents)} goes back to the card or "
                f"account that paid, by {wording.day(due)}."
            ),
            "data": {
                "order": order,
                "status": "cancelled",
                "refund": cents / 100,
                "by": due.isoformat(),
            },
        }

    return database.change(config, "cancel_order", work)


@tool(args_schema=NewAddress)
def change_address(order: str, address: str, config: RunnableConfig) -> dict[str, Any]:
    """Change the delivery address of an order that has not left the warehouse."""
    address = " ".join(address.split())

    def work(at: Connection) -> dict[str, Any]:
        row = _row(at, order)
        _must_be_open(row, "sent to another address", "ask the courier with its tracking number")
        _set(at, order, address=address)
        return {
            "summary": (
                f"Order {order} will now go to {address}. It is due by {wording.day(row['due'])}."
            ),
            "data": {"order": order, "address": address, "due": row["due"]},
        }

    return database.change(config, "change_address", work)


@tool(args_schema=Order)
def return_eligibility(order: str, config: RunnableConfig) -> dict[str, Any]:
    """Whether the things in an order can be sent back, and until when."""
    with database.transaction(config) as at:
        row = _row(at, order)
        held = refunds.lines(at, order)
    last = refunds.return_by(config, row)
    back = [each["item"] for each in held if each["returnable"] == "yes"]
    kept = [each["item"] for each in held if each["returnable"] != "yes"]
    late = dates.today(config) > last
    if late:
        said = (
            f"The time to return order {order} ended on {wording.day(last)}; "
            "a fault may still be covered by the warranty."
        )
    elif back:
        said = (
            f"You can send back {wording.listed(back)} from order {order} "
            f"until {wording.day(last)}."
        )
    else:
        said = f"Nothing in order {order} can be sent back for a change of mind."
    if kept and not late:
        said += f" {wording.listed(kept)} cannot be returned unless faulty."
    return {
        "summary": f"{said} It was delivered on {wording.day(row['delivered'])}.",
        "data": {
            "order": order,
            "eligible": bool(back) and not late,
            "until": last.isoformat(),
            "returnable": back,
            "kept": kept,
        },
    }


@tool(args_schema=Refund)
def request_refund(order: str, reason: str, config: RunnableConfig) -> dict[str, Any]:
    """Ask for the money of an order back."""

    def work(at: Connection) -> dict[str, Any]:
        row = _row(at, order)
        if row["refund_asked"]:
            raise ToolException(
                f"A refund for order {order} exists already. {refunds.standing(config, row)}"
            )
        cents = refunds.owed(at, row, reason, config)
        today = dates.today(config)
        values = {"refund_asked": today.isoformat(), "refund_cents": cents, "reason": reason}
        _set(at, order, status="refund pending", **values)
        return {
            "summary": (
                f"The refund for order {order} ({reason}) is asked for. "
                f"{refunds.standing(config, _row(at, order))}"
            ),
            "data": {
                "order": order,
                "status": "refund pending",
                "refund": cents / 100,
                "reason": reason,
            },
        }

    return database.change(config, "request_refund", work)


@tool(args_schema=Order)
def refund_status(order: str, config: RunnableConfig) -> dict[str, Any]:
    """Whether the refund of an order has been paid."""
    with database.transaction(config) as at:
        row = _row(at, order)
    if not row["refund_asked"]:
        raise ToolException(
            f"No refund has been asked for on order {order}; I can ask for one if you tell me why."
        )
    return {
        "summary": refunds.standing(config, row),
        "data": {
            "order": order,
            "asked": row["refund_asked"],
            "paid": row["refunded"] or None,
            "refund": row["refund_cents"] / 100,
        },
    }


@tool(args_schema=Order)
def invoice(order: str, config: RunnableConfig) -> dict[str, Any]:
    """The invoice of an order: its lines, delivery and total."""
    with database.transaction(config) as at:
        row = _row(at, order)
        held = refunds.lines(at, order)
        total = refunds.total(at, row)
    lines = wording.listed(
        [
            f"{each['quantity']} x {each['item']} at {wording.euros(each['price_cents'])}"
            for each in held
        ]
    )
    number = order.replace("LK", "INV")
    return {
        "summary": (
            f"Invoice {number} of {wording.day(row['placed'])} for order {order}: {lines}. "
            f"Delivery was {wording.euros(row['delivery_cents'])}, the total "
            f"{wording.euros(total)}."
        ),
        "data": {
            "invoice": number,
            "order": order,
            "day": row["placed"],
            "lines": [
                {"item": e["item"], "quantity": e["quantity"], "price": e["price_cents"] / 100}
                for e in held
            ],
            "delivery": row["delivery_cents"] / 100,
            "total": total / 100,
        },
    }


for _each in (cancel_order, change_address, request_refund):
    _each.metadata = CHANGES


def _row(at: Connection, order: str) -> RowMapping:
    row = at.execute(select(orders).where(orders.c.order == order)).mappings().first()
    if row is None:
        raise ToolException(
            f"There is no order {order}; please check the number in the confirmation e-mail."
        )
    return row


def _set(at: Connection, order: str, **values: Any) -> None:
    at.execute(update(orders).where(orders.c.order == order).values(**values))


def _goods(at: Connection, order: str) -> str:
    return wording.listed(
        [f"{each['quantity']} x {each['item']}" for each in refunds.lines(at, order)]
    )


def _must_be_open(row: RowMapping, done: str, instead: str) -> None:
    if row["status"] not in refunds.OPEN:
        undone = "cancelled" if row["status"] == "cancelled" else "given back"
        raise ToolException(
            f"Order {row['order']} was shipped on {wording.day(row['shipped'])} and can no longer "
            f"be {done}; {instead}."
            if row["status"] in ("shipped", "delivered")
            else f"Order {row['order']} was {undone} already and can no longer be changed."
        )


def _whereabouts(row: RowMapping, today: date) -> str:
    order, status = row["order"], row["status"]
    name = f"Order {order}, placed on {wording.day(row['placed'])},"
    if status in refunds.OPEN:
        step = "is packed and waits for the courier" if status == "packed" else "is not packed yet"
        return f"{name} {step}. It should arrive by {wording.day(row['due'])}."
    if status == "shipped":
        late = date.fromisoformat(row["due"]) < today
        when = "was due by" if late else "should arrive by"
        return (
            f"{name} left on {wording.day(row['shipped'])} with {row['carrier']}, tracking number "
            f"{row['tracking']}. It {when} "
            f"{wording.day(row['due'])}{' and is late' if late else ''}."
        )
    if status == "delivered":
        return f"{name} was delivered on {wording.day(row['delivered'])} by {row['carrier']}."
    if status == "cancelled":
        return f"{name} was cancelled on {wording.day(row['ended'])}."
    if status == "refunded":
        return f"{name} was paid back on {wording.day(row['refunded'])}."
    return f"{name} waits for its refund, asked for on {wording.day(row['refund_asked'])}."


def _data(row: RowMapping) -> dict[str, Any]:
    names = "order status placed shipped due delivered carrier tracking".split()
    return {name: row[name] or None for name in names}
