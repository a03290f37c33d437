"""Sums and percentages worked out exactly.

Knows numbers, + - * / and powers, brackets, a few functions and percentages as people write them
("15% of 2300", "120 plus 8%"). Runs no code: the sum is parsed to a tree and only the nodes named
here are walked.
"""

import ast
import re
from collections.abc import Callable
from decimal import Decimal, DecimalException, localcontext
from typing import Any

from langchain_core.tools import ToolException, tool
from pydantic import BaseModel, Field

from tools import wording

MOST = Decimal(10) ** 18  # beyond that figures mean little to a person, and powers get slow
LEAD = re.compile(r"^(what(?:'s| is| are)|calculate|compute|work out|how much is) ", re.I)
WORDS = (  # as people say it -> as it is calculated
    (r"[$€£]|\b(?:usd|eur|gbp|dollars?|euros?|pounds?)\b", " "),
    (r"(?<=\d),(?=\d{3}(?!\d))", ""),
    (r"\b(?:percent|per cent)\b", "%"),
    (r"\b(?:multiplied by|times)\b|[×·]|(?<=[\d)])\s*x\s*(?=[\d(])", "*"),
    (r"\b(?:divided by|over)\b|÷", "/"),
    (r"\bto the power of\b|\^", "**"),
    (r"\bsquared\b", "**2"),
    (r"\b(?:square root of)\s*(\d+(?:\.\d+)?)", r"sqrt(\1)"),
    (r"\bplus\b", "+"),
    (r"\bminus\b|[−–]", "-"),
    (r"\bhalf\b", "0.5"),
    (r"\b(?:a |one )?quarter\b", "0.25"),
    (r"\bof\b", "*"),
    (r"(\d+(?:\.\d+)?|\.\d+)\s*%", r"percent(\1)"),
)
FUNCTIONS: dict[str, Callable[..., Decimal]] = {
    "sqrt": lambda each: each.sqrt(),
    "abs": abs,
    "min": min,
    "max": max,
    "percent": lambda each: each / 100,
}
OPERATIONS: dict[type[ast.operator], Callable[[Decimal, Decimal], Decimal]] = {
    ast.Add: lambda left, right: left + right,
    ast.Sub: lambda left, right: left - right,
    ast.Mult: lambda left, right: left * right,
    ast.Div: lambda left, right: left / right,
}


class Expression(BaseModel):
    expression: str = Field(
        min_length=1,
        max_length=200,
        description='a sum such as "(1200 - 300) / 12", "15% of 2300" or "120 plus 8%"',
    )


@tool(args_schema=Expression)
def calculate(expression: str) -> dict[str, Any]:
    """Work out a sum or a percentage."""
    asked = LEAD.sub("", " ".join(expression.split()).rstrip("?= "))
    try:
        with localcontext(prec=40):
            result = _value(ast.parse(_read(asked), mode="eval").body)
    except ZeroDivisionError:
        raise ToolException(f"{asked} divides by zero; please check the numbers.") from None
    except (SyntaxError, ValueError, RecursionError, MemoryError, TypeError, DecimalException):
        raise ToolException(
            f'I could not read "{asked}" as a sum; write it like (1200 - 300) / 12 or 15% of 2300.'
        ) from None
    exact = result == round(result, 6)
    shown = wording.figure(result, 6)
    return {
        "summary": f"{asked} {'=' if exact else 'is about'} {shown}.",
        "data": {"expression": asked, "result": float(result)},
    }


def _read(asked: str) -> str:
    text = asked.lower()
    for said, meant in WORDS:
        text = re.sub(said, meant, text)
    return text.strip()


def _value(node: ast.expr) -> Decimal:
    result = _walk(node)
    if not result.is_finite() or abs(result) > MOST:
        raise ToolException(f"The result goes beyond {MOST:,.0f}; please use smaller numbers.")
    return result


def _walk(node: ast.expr) -> Decimal:
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return Decimal(str(number))
        case ast.UnaryOp(op=ast.USub(), operand=part):
            return -_value(part)
        case ast.UnaryOp(op=ast.UAdd(), operand=part):
            return _value(part)
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            return _power(_value(left), _value(right))
        case ast.BinOp(left=left, op=ast.Add() | ast.Sub() as op, right=right) if _is_percent(
            right
        ):
            base = _value(left)  # "120 plus 8%": of what stands before it
            return OPERATIONS[type(op)](base, base * _value(right))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATIONS:
            return OPERATIONS[type(op)](_value(left), _value(right))
        case ast.Call(func=ast.Name(id=name), args=parts, keywords=[]) if (
            name in FUNCTIONS and parts
        ):
            return FUNCTIONS[name](*(_value(part) for part in parts))
    raise ValueError(type(node).__name__)


def _is_percent(node: ast.expr) -> bool:
    return (
        isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "percent"
    )


def _power(base: Decimal, exponent: Decimal) -> Decimal:
    if abs(exponent) > 1000:
        raise ToolException("Powers work up to 1,000; please use a smaller one.")
    return base**exponent
