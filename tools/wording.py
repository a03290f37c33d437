"""Figures and days as people read them: "$234.79", "EUR 49.90", "6.5%", "21 November 2026".

Knows English wording only. The number guard compares replies with these forms, so every tool uses
them.
"""

from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal

MONTHS = (
    "January February March April May June July August September October November December"
).split()
WEEKDAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()


def figure(value: float | Decimal, places: int = 2) -> str:
    """A number with thousands commas and no idle zeros: 1234.50 -> "1,234.5"."""
    text = f"{value:,.{places}f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


def dollars(value: float) -> str:
    """12000 -> "$12,000", 234.789 -> "$234.79", -5.5 -> "-$5.50"."""
    amount = f"${abs(value):,.2f}".removesuffix(".00")
    return f"-{amount}" if value < 0 and amount != "$0" else amount


def euros(cents: int) -> str:
    """4990 cents -> "EUR 49.90"."""
    return f"EUR {cents / 100:,.2f}"


def percent(value: float, places: int = 2) -> str:
    """6.5 -> "6.5%"."""
    return f"{figure(value, places)}%"


def span(years: float) -> str:
    """5 -> "5 years", 1 -> "1 year", 2.5 -> "2.5 years"."""
    return f"{figure(years)} {'year' if years == 1 else 'years'}"


def day(when: date | str) -> str:
    """A date, or its ISO form, -> "21 November 2026"."""
    when = date.fromisoformat(when) if isinstance(when, str) else when
    return f"{when.day} {MONTHS[when.month - 1]} {when.year}"


def weekday(when: date | str) -> str:
    """A date, or its ISO form, -> "Friday 20 November 2026"."""
    when = date.fromisoformat(when) if isinstance(when, str) else when
    return f"{WEEKDAYS[when.weekday()]} {day(when)}"


def clock(when: datetime) -> str:
    """The time of day: "14:05"."""
    return f"{when:%H:%M}"


def listed(parts: Sequence[str], last: str = "and") -> str:
    """["a", "b", "c"] -> "a, b and c"."""
    return f" {last} ".join(filter(None, [", ".join(parts[:-1]), *parts[-1:]]))
