"""What savings grow to.

Knows compound interest, monthly; does not know taxes, fees, inflation, or whether a rate can be
had.
"""

from typing import Any

from langchain_core.tools import tool
from pydantic import BaseModel, Field

from tools import wording


class Savings(BaseModel):
    amount: float = Field(
        ge=0, le=1e9, allow_inf_nan=False, description="amount saved at the start, in dollars"
    )
    rate: float = Field(
        ge=-20, le=50, allow_inf_nan=False, description="yearly rate in percent: 4 means 4% a year"
    )
    years: float = Field(ge=1 / 12, le=80, allow_inf_nan=False, description="how long, in years")
    monthly: float = Field(
        0,
        ge=0,
        le=1e7,
        allow_inf_nan=False,
        description="added at the end of each month, in dollars",
    )


@tool(args_schema=Savings)
def compound_growth(amount: float, rate: float, years: float, monthly: float = 0) -> dict[str, Any]:
    """What savings grow to with interest compounded monthly, with or without monthly additions."""
    months = round(years * 12)
    step = rate / 1200
    grown = (1 + step) ** months
    final = amount * grown + monthly * ((grown - 1) / step if step else months)
    paid = amount + monthly * months
    added = f" with {wording.dollars(monthly)} added each month" if monthly else ""
    change = "growth" if final >= paid else "loss"
    return {
        "summary": (
            f"{wording.dollars(amount)}{added} at {wording.percent(rate)} a year, compounded "
            "monthly, becomes "
            f"{wording.dollars(final)} after {wording.span(years)}. Of that "
            f"{wording.dollars(paid)} was paid in and "
            f"{wording.dollars(abs(final - paid))} is {change}, before tax and inflation."
        ),
        "data": {
            "final": round(final, 2),
            "paid_in": round(paid, 2),
            "growth": round(final - paid, 2),
            "months": months,
        },
    }
