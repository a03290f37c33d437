"""Prices of shares and funds in the price file, and how they moved.

Knows weekly closes; does not know today's market, dividends, or what a price will do.
"""

from typing import Any

from langchain_core.runnables import RunnableConfig
from langchain_core.tools import ToolException, tool
from pydantic import BaseModel, Field

from tools import tables, wording


class Ticker(BaseModel):
    ticker: str = Field(
        min_length=2, max_length=60, description="ticker or name of a share or fund, such as NVLA"
    )


@tool(args_schema=Ticker)
def price_summary(ticker: str, config: RunnableConfig) -> dict[str, Any]:
    """The last price of a share or fund and its moves over a week, a quarter and a year."""
    row = tables.find(config, "tickers", ticker)
    if row is None:
        known = wording.listed([each["name"] for each in tables.rows(config, "tickers")])
        raise ToolException(f"{ticker} is not in our price file, which holds {known}.")
    series = closes(config, row["name"])
    days, prices = list(series), list(series.values())
    moves = {"week": _move(prices, 1), "quarter": _move(prices, 13), "year": _move(prices, 52)}
    low, high = min(prices[-53:]), max(prices[-53:])
    return {
        "summary": (
            f"{row['aliases'].split(';')[0]} ({row['name']}, {row['kind']}) closed at "
            f"{wording.dollars(prices[-1])} on "
            f"{wording.day(days[-1])}, {_say(moves['week'])} over a week, {_say(moves['quarter'])} "
            "over 13 weeks and "
            f"{_say(moves['year'])} over 52 weeks. Its 52-week range is {wording.dollars(low)} to "
            f"{wording.dollars(high)}."
        ),
        "data": {
            "ticker": row["name"],
            "day": days[-1],
            "close": prices[-1],
            **moves,
            "low": low,
            "high": high,
        },
    }


def closes(config: RunnableConfig, ticker: str) -> dict[str, float]:
    """Weekly closes of one ticker in dollars, by ISO day, oldest first."""
    found = (row for row in tables.rows(config, "prices") if row["ticker"] == ticker)
    return {row["day"]: float(row["close"]) for row in found}


def _move(prices: list[float], weeks: int) -> float:
    """Change over that many weeks, in percent."""
    return round((prices[-1] / prices[-1 - weeks] - 1) * 100, 1)


def _say(move: float) -> str:
    return (
        f"{'down' if move < 0 else 'up'} {wording.percent(abs(move), 1)}" if move else "unchanged"
    )
