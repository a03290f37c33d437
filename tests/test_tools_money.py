"""Loans, savings, risk profile and body measures: figures against known formulas."""

import pytest
from langchain_core.tools import ToolException
from pydantic import ValidationError

from tools.body import body_mass_index
from tools.loans import amortisation, balance, monthly_payment, payment
from tools.risk import risk_profile
from tools.savings import compound_growth
from tools.wording import dollars, euros, listed, percent, span


def test_the_payment_is_the_one_a_bank_calculator_shows():
    told = monthly_payment.invoke({"amount": 12000, "rate": 6.5, "years": 5})
    assert told["data"] == {
        "payment": 234.79,
        "months": 60,
        "total": 14087.63,
        "interest": 2087.63,
    }
    for figure in ("$12,000", "6.5%", "5 years", "$234.79", "$14,087.63", "$2,087.63"):
        assert figure in told["summary"]


def test_a_mortgage_payment_is_known():
    assert payment(300_000, 6.5, 360) == pytest.approx(1896.20, abs=0.005)


def test_a_loan_without_interest_is_its_amount_in_parts():
    told = monthly_payment.invoke({"amount": 1200, "rate": 0, "years": 1})
    assert told["data"]["payment"] == 100 and told["data"]["interest"] == 0


@pytest.mark.parametrize("months", [12, 30, 60, 360])
def test_balances_follow_a_loan_paid_month_by_month(months):
    left = 12000.0
    for month in range(1, months + 1):
        left = left * (1 + 0.065 / 12) - payment(12000, 6.5, months)
        assert balance(12000, 6.5, months, month) == pytest.approx(left, abs=0.01)
    assert left == pytest.approx(0, abs=0.01)


def test_the_schedule_tells_interest_and_what_is_owed_each_year():
    told = amortisation.invoke({"amount": 12000, "rate": 6.5, "years": 5})
    assert [row["balance"] for row in told["data"]["years"]] == [
        9900.66,
        7660.73,
        5270.79,
        2720.78,
        0,
    ]
    assert "$9,900.66 after year 1" in told["summary"] and "$2,087.63" in told["summary"]


@pytest.mark.parametrize(
    "slots",
    [
        {"amount": -5, "rate": 6.5, "years": 5},
        {"amount": float("nan"), "rate": 6.5, "years": 5},
        {"amount": 12000, "rate": 600, "years": 5},
        {"amount": 12000, "rate": 6.5, "years": 0},
        {"amount": 12000, "rate": 6.5, "years": "soon"},
    ],
)
def test_a_loan_out_of_bounds_is_a_validation_error(slots):
    with pytest.raises(ValidationError):
        monthly_payment.invoke(slots)


def test_savings_compound_monthly():
    told = compound_growth.invoke({"amount": 10000, "rate": 5, "years": 10})
    assert told["data"]["final"] == 16470.09 == round(10000 * (1 + 0.05 / 12) ** 120, 2)
    assert "$16,470.09" in told["summary"] and "$6,470.09" in told["summary"]


@pytest.mark.parametrize("rate", [0, 5])
def test_monthly_additions_grow_as_if_each_were_saved(rate):
    told = compound_growth.invoke({"amount": 1000, "rate": rate, "years": 10, "monthly": 100})
    left = 1000.0
    for _ in range(120):
        left = left * (1 + rate / 1200) + 100
    assert told["data"]["final"] == pytest.approx(left, abs=0.01)
    assert told["data"]["paid_in"] == 13000


@pytest.mark.parametrize(
    ("age", "horizon", "reaction", "score", "category"),
    [
        (30, 20, "buy more", 100, "growth"),
        (70, 0, "sell everything", 0, "cautious"),
        (45, 10, "hold", 59, "balanced"),
        (25, 2, "buy more", 34, "cautious"),
    ],
)
def test_a_risk_score_has_its_category(age, horizon, reaction, score, category):
    told = risk_profile.invoke({"age": age, "horizon": horizon, "reaction": reaction})
    assert (told["data"]["score"], told["data"]["category"]) == (score, category)
    assert f"{score} of 100" in told["summary"]


def test_a_risk_score_is_for_adults():
    with pytest.raises(ValidationError):
        risk_profile.invoke({"age": 12, "horizon": 10, "reaction": "hold"})


@pytest.mark.parametrize(
    ("height", "weight", "index", "category"),
    [
        (180, 82, 25.3, "overweight"),
        (170, 53.4, 18.5, "healthy weight"),
        (170, 50, 17.3, "underweight"),
        (160, 80, 31.2, "class 1 obesity"),
        (160, 92, 35.9, "class 2 obesity"),
        (160, 110, 43.0, "class 3 obesity (severe)"),
    ],
)
def test_the_body_mass_index_has_its_cdc_category(height, weight, index, category):
    told = body_mass_index.invoke({"height": height, "weight": weight})
    assert (told["data"]["bmi"], told["data"]["category"]) == (index, category)
    assert str(index) in told["summary"] and "adults" in told["summary"]


def test_the_body_mass_index_is_not_read_for_children():
    with pytest.raises(ToolException, match="20 and over"):
        body_mass_index.invoke({"height": 150, "weight": 40, "age": 12})


@pytest.mark.parametrize("height", [1.8, 18, 400])
def test_a_height_that_is_not_in_centimetres_is_a_validation_error(height):
    with pytest.raises(ValidationError):
        body_mass_index.invoke({"height": height, "weight": 82})


def test_figures_are_worded_for_people():
    assert [dollars(each) for each in (12000, 234.789, -5.5, 0.001)] == [
        "$12,000",
        "$234.79",
        "-$5.50",
        "$0",
    ]
    assert (euros(4990), percent(6.50), span(1), span(2.5)) == (
        "EUR 49.90",
        "6.5%",
        "1 year",
        "2.5 years",
    )
    assert (listed(["a"]), listed(["a", "b", "c"], "or"), listed([])) == ("a", "a, b or c", "")
