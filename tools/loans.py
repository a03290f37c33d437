"""Loans with equal monthly payments.

Knows the annuity formula; does not know fees, taxes, insurance, or who would lend at that rate.
Figures come from the exact payment and are rounded when worded, as bank calculators do.
"""

from typing import Any

from langchain_core.tools import tool
from pydantic import BaseModel, Field

from tools import wording


class Loan(BaseModel):
    amount: float = Field(
        ge=1, le=1e9, allow_inf_nan=False, description="amount borrowed, in dollars"
    )
    rate: float = Field(
        ge=0,
        le=100,
        allow_inf_nan=False,
        description="yearly rate in percent: 6.5 means 6.5% a year",
    )
    years: float = Field(
        ge=1 / 12, le=50, allow_inf_nan=False, description="term in years; 0.5 is six months"
    )


@tool(args_schema=Loan)
def monthly_payment(amount: float, rate: float, years: float) -> dict[str, Any]:
    """What a loan costs a month, and in all."""
    months = round(years * 12)
    pay = payment(amount, rate, months)
    total, interest = pay * months, pay * months - amount
    return {
        "summary": (
            f"{_loan(amount, rate, years)} costs {wording.dollars(pay)} a month. Over "
            f"{_months(months)} that is "
            f"{wording.dollars(total)} in all, of which {wording.dollars(interest)} is interest."
        ),
        "data": {
            "payment": round(pay, 2),
            "months": months,
            "total": round(total, 2),
            "interest": round(interest, 2),
        },
    }


@tool(args_schema=Loan)
def amortisation(amount: float, rate: float, years: float) -> dict[str, Any]:
    """How a loan is paid down: total interest, and the balance after each year."""
    months = round(years * 12)
    pay = payment(amount, rate, months)
    ends = [*range(12, months, 12), months]
    table = [
        {"year": n + 1, "month": end, "balance": round(balance(amount, rate, months, end), 2)}
        for n, end in enumerate(ends)
    ]
    first = amount * rate / 1200
    return {
        "summary": (
            f"{_loan(amount, rate, years)} costs {wording.dollars(pay)} a month and "
            f"{wording.dollars(pay * months - amount)} of interest in all. The first payment is "
            f"{wording.dollars(first)} interest and {wording.dollars(pay - first)} repayment. "
            f"Still owed: {_still_owed(table)}."
        ),
        "data": {
            "payment": round(pay, 2),
            "months": months,
            "interest": round(pay * months - amount, 2),
            "years": table,
        },
    }


def payment(amount: float, rate: float, months: int) -> float:
    """The equal monthly payment of a loan; rate in percent a year."""
    step = rate / 1200
    return amount * step / (1 - (1 + step) ** -months) if step else amount / months


def balance(amount: float, rate: float, months: int, paid: int) -> float:
    """What is still owed after `paid` monthly payments."""
    step = rate / 1200
    if not step:
        return amount * (months - paid) / months
    left = payment(amount, rate, months) * (1 - (1 + step) ** (paid - months)) / step
    return max(left, 0.0)


def _loan(amount: float, rate: float, years: float) -> str:
    return (
        f"A loan of {wording.dollars(amount)} at {wording.percent(rate)} a year "
        f"over {wording.span(years)}"
    )


def _months(months: int) -> str:
    return f"{months} {'month' if months == 1 else 'months'}"


def _still_owed(table: list[dict[str, Any]]) -> str:
    """All years of a short loan; of a long one the first, the quarters and the last."""
    last = len(table)
    shown = set(range(1, last + 1)) if last <= 6 else {1, last // 4, last // 2, 3 * last // 4, last}
    return wording.listed(
        [
            f"{wording.dollars(row['balance'])} after {_after(row)}"
            for row in table
            if row["year"] in shown
        ]
    )


def _after(row: dict[str, Any]) -> str:
    return f"year {row['year']}" if row["month"] % 12 == 0 else _months(row["month"])
