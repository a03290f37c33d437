"""The calculator: sums as people write them, and no code."""

import pytest
from langchain_core.tools import ToolException
from pydantic import ValidationError

from tools.calculator import calculate


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        ("15% of 2300", 345),
        ("15 percent of 80 + 3", 15),
        ("120 plus 8%", 129.6),
        ("200 minus 15 percent", 170),
        ("100 + 20 - 10%", 108),
        ("(1200 - 300) / 12", 75),
        ("what is 12 x 7?", 84),
        ("$1,200.50 * 2", 2401),
        ("2,300 divided by 4", 575),
        ("2^10", 1024),
        ("3 squared", 9),
        ("square root of 144", 12),
        ("half of 90", 45),
        ("max(3, 7) - abs(-2)", 5),
        ("0.1 + 0.2", 0.3),
        ("8%", 0.08),
    ],
)
def test_a_sum_is_worked_out(expression, result):
    told = calculate.invoke({"expression": expression})
    assert told["data"]["result"] == result
    assert told["summary"].endswith(f"= {result:,}.")


def test_large_whole_numbers_stay_exact():
    told = calculate.invoke({"expression": "123456789 * 987654321"})
    assert "= 121,932,631,112,635,269." in told["summary"]


def test_a_rounded_result_says_so():
    assert calculate.invoke({"expression": "10/3"})["summary"] == "10/3 is about 3.333333."


@pytest.mark.parametrize(
    "expression",
    [
        "__import__('os').system('true')",
        "().__class__",
        "[1 for _ in (1, 2)]",
        "'a' * 9",
        "True + 1",
        "lambda: 1",
        "open(1)",
        "sqrt(1, 2, 3)",
        "sqrt(x=1)",
        "min()",
        "(-8) ** 0.5",
        "1j + 1",
        "hello",
        "5 +",
        "(" * 199,
    ],
)
def test_what_is_not_a_sum_is_explained(expression):
    with pytest.raises(ToolException, match="could not read"):
        calculate.invoke({"expression": expression})


@pytest.mark.parametrize(
    "expression", ["9**9**9", "10**1001", "10**19", "1e400", "99999999999999999999"]
)
def test_a_figure_beyond_reason_is_refused_at_once(expression):
    with pytest.raises(ToolException, match="please use"):
        calculate.invoke({"expression": expression})


def test_a_division_by_zero_is_explained():
    with pytest.raises(ToolException, match="divides by zero"):
        calculate.invoke({"expression": "5 / (3 - 3)"})


def test_a_text_too_long_is_a_validation_error():
    with pytest.raises(ValidationError):
        calculate.invoke({"expression": "1+" * 200 + "1"})
