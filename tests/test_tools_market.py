"""The price file and the risk figures of portfolios."""

import math
from datetime import date
from pathlib import Path
from statistics import fmean, stdev

import pytest
from langchain_core.tools import ToolException
from pydantic import ValidationError

from tools import market, tables
from tools.market import price_summary
from tools.portfolio import figures, portfolio_risk, value

DATA = Path(__file__).parent.parent / "domains" / "finance" / "data"
CONFIG = {"configurable": {"data": DATA}}
TICKERS = [row["name"] for row in tables.read(DATA / "tickers.csv", 0)]
PORTFOLIOS = [row["name"] for row in tables.read(DATA / "portfolios.csv", 0)]


@pytest.mark.parametrize("ticker", TICKERS)
def test_every_ticker_has_three_years_of_weekly_closes(ticker):
    days = [date.fromisoformat(day) for day in market.closes(CONFIG, ticker)]
    assert len(days) == 157 and days[-1] == date(2026, 11, 20)
    assert all((after - before).days == 7 for before, after in zip(days, days[1:], strict=False))


def test_a_price_is_summed_up_by_ticker_or_name():
    told = price_summary.invoke({"ticker": "novela devices"}, CONFIG)
    prices = list(market.closes(CONFIG, "NVLA").values())
    assert told["data"]["close"] == prices[-1]
    assert told["data"]["year"] == round((prices[-1] / prices[-53] - 1) * 100, 1)
    assert f"${prices[-1]}" in told["summary"] and "20 November 2026" in told["summary"]


def test_an_unknown_ticker_names_the_known_ones():
    with pytest.raises(ToolException, match="not in our price file, which holds NVLA"):
        price_summary.invoke({"ticker": "AAPL"}, CONFIG)


@pytest.mark.parametrize("portfolio", PORTFOLIOS)
def test_every_portfolio_has_its_figures_in_words(portfolio):
    told = portfolio_risk.invoke({"portfolio": portfolio}, CONFIG)
    data = told["data"]
    assert 0 <= data["var"] <= data["drawdown"] <= 60 and data["volatility"] > 0
    for figure in (data["volatility"], data["drawdown"], data["var"]):
        assert f"{figure:g}%" in told["summary"]


def test_the_value_is_units_times_closes():
    days, values = value(CONFIG, "PF-104")
    assert values[-1] == pytest.approx(250 * market.closes(CONFIG, "TMF")[days[-1]])


def test_risk_figures_follow_their_definitions():
    values = [100.0, 110.0, 99.0, 104.0, 78.0, 90.0, 117.0]
    told = figures(values, 3.0)
    weekly = [after / before - 1 for before, after in zip(values, values[1:], strict=False)]
    spread = stdev(weekly) * math.sqrt(52)
    assert told["volatility"] == round(spread * 100, 1)
    assert told["sharpe"] == round((fmean(weekly) * 52 - 0.03) / spread, 2)
    assert told["drawdown"] == 29.1  # from 110 to 78
    assert told["return"] == round((1.17 ** (52 / 6) - 1) * 100, 1)
    worst = sorted(weekly)[:2]  # 5% of 6 weeks lies a quarter of the way from the worst to the next
    assert told["var"] == round(-(worst[0] + 0.25 * (worst[1] - worst[0])) * 100, 1)


def test_a_portfolio_unknown_or_misnamed_is_refused():
    with pytest.raises(ToolException, match="no portfolio PF-999"):
        portfolio_risk.invoke({"portfolio": "PF-999"}, CONFIG)
    with pytest.raises(ValidationError):
        portfolio_risk.invoke({"portfolio": "mine"}, CONFIG)
