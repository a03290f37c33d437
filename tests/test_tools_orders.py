"""Orders: what is said of each state, and what the shop's rules allow in it."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from langchain_core.tools import ToolException
from pydantic import ValidationError

from tools import refunds, tables
from tools.orders import (
    cancel_order,
    change_address,
    invoice,
    order_status,
    refund_status,
    request_refund,
    return_eligibility,
)

DATA = Path(__file__).parent.parent / "domains" / "customer_service" / "data"
ROWS = tables.read(DATA / "orders.csv", 0)
ADDRESS = "9 New Street, Galway H91 AB12, Ireland"


@pytest.fixture
def ask(tmp_path):
    """Call a tool on a fresh shop; each call is a turn of its own on 20 November 2026."""
    turns = iter(range(1000))

    def call(tool, on=date(2026, 11, 20), **slots):
        now = datetime(on.year, on.month, on.day, 14, 5, tzinfo=UTC)
        said = {"data": DATA, "state": tmp_path, "key": f"turn-{next(turns)}", "now": now}
        return tool.invoke(slots, {"configurable": said})

    return call


def first(status, late=False):
    """The first order in that state; late or not against 20 November 2026."""
    return next(
        row["order"]
        for row in ROWS
        if row["status"] == status and (row["due"] < "2026-11-17") == late
    )


def young():
    """An order delivered lately, all of whose items can go back."""
    return next(
        row
        for row in ROWS
        if row["status"] == "delivered"
        and row["delivered"] > "2026-11-01"
        and all(each["returnable"] == "yes" for each in goods(row["order"]))
    )


def goods(order):
    return [row for row in tables.read(DATA / "items.csv", 0) if row["order"] == order]


def price(order):
    """What the items of an order cost, in cents."""
    return sum(int(each["quantity"]) * int(each["price_cents"]) for each in goods(order))


def test_an_order_on_its_way_tells_courier_number_and_day(ask):
    summary = ask(order_status, order="LK-10482")["summary"]
    assert "DPD" in summary and "JD772117406" in summary and "24 November 2026" in summary


def test_an_order_past_its_day_is_said_to_be_late(ask):
    assert "is late" in ask(order_status, order=first("shipped", late=True))["summary"]


def test_every_order_of_the_file_has_a_status_and_an_invoice(ask):
    for row in ROWS:
        assert row["order"] in ask(order_status, order=row["order"])["summary"]
        total = ask(invoice, order=row["order"])["data"]["total"]
        assert total == (price(row["order"]) + int(row["delivery_cents"])) / 100


def test_an_invoice_adds_up_in_words(ask):
    summary = ask(invoice, order="LK-10482")["summary"]
    assert "EUR 49.90" in summary and "EUR 4.95" in summary and "EUR 79.35" in summary


@pytest.mark.parametrize(
    "tool", [order_status, cancel_order, return_eligibility, refund_status, invoice]
)
def test_an_unknown_order_is_explained(ask, tool):
    with pytest.raises(ToolException, match="no order LK-99999.*check the number"):
        ask(tool, order="LK-99999")


def test_an_order_number_of_another_form_is_a_validation_error(ask):
    with pytest.raises(ValidationError):
        ask(order_status, order="LK-1'; drop table orders")


@pytest.mark.parametrize("status", ["placed", "packed"])
def test_an_order_not_sent_yet_can_be_cancelled_and_is_paid_back(ask, status):
    order = first(status)
    done = ask(cancel_order, order=order)
    assert "27 November 2026" in done["summary"]  # five working days after the 20th
    assert "cancelled on 20 November 2026" in ask(order_status, order=order)["summary"]
    assert ask(refund_status, order=order)["data"]["refund"] == done["data"]["refund"]


@pytest.mark.parametrize("tool", [cancel_order, change_address])
def test_an_order_that_left_can_be_neither_cancelled_nor_redirected(ask, tool):
    slots = {"address": ADDRESS} if tool is change_address else {}
    with pytest.raises(ToolException, match="shipped on 18 November 2026"):
        ask(tool, order="LK-10482", **slots)


def test_an_address_changes_before_the_order_leaves(ask):
    done = ask(change_address, order=first("placed"), address=f"  {ADDRESS}\n")
    assert done["data"]["address"] == ADDRESS and ADDRESS in done["summary"]


def test_a_delivered_order_can_go_back_for_thirty_days(ask):
    row = young()
    last = date.fromisoformat(row["delivered"]) + timedelta(days=30)
    assert ask(return_eligibility, on=last, order=row["order"])["data"]["eligible"]
    after = ask(return_eligibility, on=last + timedelta(days=1), order=row["order"])
    assert not after["data"]["eligible"] and "ended on" in after["summary"]


def test_an_order_not_delivered_yet_has_nothing_to_send_back(ask):
    with pytest.raises(ToolException, match="not been delivered yet"):
        ask(return_eligibility, order="LK-10482")


def test_a_damaged_order_is_paid_back_with_delivery_and_only_once(ask):
    order = young()["order"]
    done = ask(request_refund, order=order, reason="damaged")
    assert done["data"]["refund"] == ask(invoice, order=order)["data"]["total"]
    assert "27 November 2026" in ask(refund_status, order=order)["summary"]
    with pytest.raises(ToolException, match="exists already"):
        ask(request_refund, order=order, reason="damaged")


def test_a_change_of_mind_is_paid_back_without_delivery(ask):
    row = young()
    done = ask(request_refund, order=row["order"], reason="changed my mind")
    assert done["data"]["refund"] == price(row["order"]) / 100
    assert "return reaching us" in done["summary"]


def test_a_parcel_is_lost_only_some_days_after_it_was_due(ask):
    with pytest.raises(ToolException, match="after 27 November 2026, ask again"):
        ask(request_refund, order="LK-10482", reason="never arrived")
    done = ask(request_refund, on=date(2026, 11, 28), order="LK-10482", reason="never arrived")
    assert done["data"]["refund"] == 79.35


def test_a_parcel_marked_delivered_goes_to_a_colleague(ask):
    with pytest.raises(ToolException, match="colleague has to trace it"):
        ask(request_refund, order=young()["order"], reason="never arrived")


def test_a_refund_too_late_points_to_the_warranty(ask):
    with pytest.raises(ToolException, match="warranty"):
        ask(request_refund, on=date(2027, 2, 1), order=young()["order"], reason="damaged")


def test_an_order_still_here_is_cancelled_and_not_refunded(ask):
    with pytest.raises(ToolException, match="simply be cancelled"):
        ask(request_refund, order=first("placed"), reason="changed my mind")


def test_a_refund_nobody_asked_for_has_no_status(ask):
    with pytest.raises(ToolException, match="No refund has been asked for"):
        ask(refund_status, order="LK-10482")


def test_a_refund_past_its_day_is_admitted(ask):
    order = next(
        r["order"]
        for r in ROWS
        if r["status"] == "refund pending" and r["reason"] != "changed my mind"
    )
    assert (
        "should have been paid" in ask(refund_status, on=date(2027, 1, 10), order=order)["summary"]
    )


def test_working_days_skip_the_weekend():
    assert refunds.working_days(date(2026, 11, 20), 1) == date(2026, 11, 23)
    assert refunds.working_days(date(2026, 11, 21), 5) == date(2026, 11, 27)
