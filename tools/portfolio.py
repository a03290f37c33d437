"""Risk figures of a portfolio that is held with us.

Knows units held and weekly closes, with today's units taken back in time; does not know purchases,
fees, dividends, or the future.
"""

from itertools import accumulate, pairwise
from statistics import fmean, quantiles, stdev
from typing import Any

from langchain_core.runnables import RunnableConfig
from langchain_core.tools import ToolException, tool
from pydantic import BaseModel, Field

from tools import market, tables, wording

WEEKS = 52


class Portfolio(BaseModel):
    portfolio: str = Field(
        pattern=r"^PF-\d{3}$", description="portfolio number, PF- and three digits, such as PF-102"
    )
    risk_free: float = Field(
        3.0,
        ge=0,
        le=20,
        allow_inf_nan=False,
        description="risk-free rate for Sharpe, percent a year",
    )


@tool(args_schema=Portfolio)
def portfolio_risk(
    portfolio: str, config: RunnableConfig, risk_free: float = 3.0
) -> dict[str, Any]:
    """Return, volatility, Sharpe ratio, largest drawdown and value at risk of a portfolio."""
    row = tables.find(config, "portfolios", portfolio)
    if row is None:
        raise ToolException(
            f"There is no portfolio {portfolio}; please check the number on your statement."
        )
    days, values = value(config, portfolio)
    told = figures(values, risk_free)
    worth = values[-1]
    at_risk = worth * told["var"] / 100
    return {
        "summary": (
            f"Portfolio {portfolio} ({row['title']}) was worth {wording.dollars(worth)} on "
            f"{wording.day(days[-1])}; since "
            f"{wording.day(days[0])} it returned {wording.percent(told['return'], 1)} a year with "
            "a volatility of "
            f"{wording.percent(told['volatility'], 1)} a year and a Sharpe ratio of "
            f"{told['sharpe']} over a "
            f"{wording.percent(risk_free)} risk-free rate. Its largest fall from a peak was "
            f"{wording.percent(told['drawdown'], 1)}. In the worst 5% of weeks it lost at least "
            f"{wording.percent(told['var'], 1)}, about {wording.dollars(round(at_risk))} (95% "
            "weekly value at risk)."
        ),
        "data": {
            "portfolio": portfolio,
            "value": round(worth, 2),
            "from": days[0],
            "to": days[-1],
            "var_dollars": round(at_risk, 2),
            **told,
        },
    }


def value(config: RunnableConfig, portfolio: str) -> tuple[list[str], list[float]]:
    """Days, and what today's units were worth on each of them, in dollars."""
    held = {
        row["ticker"]: float(row["units"])
        for row in tables.rows(config, "holdings")
        if row["portfolio"] == portfolio
    }
    series = {ticker: market.closes(config, ticker) for ticker in held}
    days = sorted(set.intersection(*(set(each) for each in series.values())))
    return days, [sum(units * series[name][day] for name, units in held.items()) for day in days]


def figures(values: list[float], risk_free: float) -> dict[str, float]:
    """Risk figures of weekly values, in percent but for the Sharpe ratio; losses are positive."""
    weekly = [after / before - 1 for before, after in pairwise(values)]
    spread = stdev(weekly) * WEEKS**0.5
    excess = fmean(weekly) * WEEKS - risk_free / 100
    peaks = accumulate(values, max)
    return {
        "return": round(((values[-1] / values[0]) ** (WEEKS / len(weekly)) - 1) * 100, 1),
        "volatility": round(spread * 100, 1),
        "sharpe": round(excess / spread, 2) if spread else 0.0,
        "drawdown": round(
            max(1 - now / peak for now, peak in zip(values, peaks, strict=True)) * 100, 1
        ),
        "var": round(max(0.0, -quantiles(weekly, n=20, method="inclusive")[0]) * 100, 1),
    }
