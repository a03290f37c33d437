"""Measured figures in a person's words, and which figure answers which slot when several stand in one message.

Reads the line that `spoken.plain` returns; does not know name tables, free words, corrections or the dialogue.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from itertools import islice

from agent.spoken import MOST

MEASURED = ("money", "percent", "years", "length", "mass", "number")

# ---- figures with their units

_NUMBER = r"\d{1,3}(?:,\d{3}){1,4}(?:\.\d{1,6})?|\d{1,15}(?:[.,]\d{1,6})?|\.\d{1,6}"
_LARGER = {"hundred": 1e2, "k": 1e3, "grand": 1e3, "thousand": 1e3, "m": 1e6, "mn": 1e6, "mil": 1e6, "mio": 1e6,
           "million": 1e6, "millions": 1e6, "bn": 1e9, "billion": 1e9}
_UNITS: dict[str, dict[str, float]] = {}
"""Unit as written -> {kind of slot: factor to its unit (years, cm, kg, percent, whole currency)}."""
for _words, _means in (
    ("% percent pct procent per\\ cent p.c.", {"percent": 1.0}),
    ("$ € £ usd eur gbp dollar dollars euro euros bucks quid", {"money": 1.0}),
    ("cent cents", {"money": 0.01}),
    ("pound pounds", {"money": 1.0, "mass": 0.45359237}), ("lb lbs", {"mass": 0.45359237}),
    ("kg kgs kilo kilos kilogram kilograms", {"mass": 1.0}), ("st stone stones", {"mass": 6.35029318}),
    ("cm cms centimetre centimetres centimeter centimeters", {"length": 1.0}),
    ("metre metres meter meters mtr", {"length": 100.0}),
    ("in inch inches", {"length": 2.54}), ("ft foot feet '", {"length": 30.48}),
    ("y yr yrs year years", {"years": 1.0}), ("month months mo mos mth mths", {"years": 1 / 12}),
    ("decade decades", {"years": 10.0}), ("yo y/o", {"number": 1.0}),
    # Counted things that answer no slot; naming them keeps "2 tablets" from being a bare figure.
    ("mg ml g mcg days day weeks week hours hour hrs mins min minutes minute times tablets pills doses a.m. p.m. am pm "
     "o'clock kids children shares people points ways payments x", {}),
):
    _UNITS |= {unit.replace("\0", " "): _means for unit in _words.replace("\\ ", "\0").split()}
_UNIT = "|".join(re.escape(each) for each in sorted(_UNITS, key=len, reverse=True))
_FIGURE = re.compile(
    rf"(?:(?P<sign>us\$|[$€£]|\b(?:usd|eur|gbp|euros?)\b) ?|(?<![\w.#:/])(?<![a-z\d]-))(?P<number>{_NUMBER})"
    rf"(?:[ -]?(?P<larger>{'|'.join(sorted(_LARGER, key=len, reverse=True))})(?!\w))?(?:[ -]?(?P<unit>{_UNIT})(?!\w))?"
    r"(?![\w/:%]|[.,-]\d)")
_FEET = re.compile(r"(?<![\w.,'])([3-7]) ?(?:'|-?ft\.?|-?foot|-?feet)[ ,]?(?:and )?(1[01]|\d)(?!\d|[.,]\d| ?(?:kg|kilo|lb|"
                   r"pound|st\b|stone)) ?(?:\"|''|inches|inch|in\b)?|(?<![\w./-])([4-7])[- ](1[01]|\d)(?![\w/-]|[.,]\d)(?! ?(?:years|kg|kilo|lb|pound|stone))")
_ONE_SEVENTY = re.compile(r"(?<![\w.,'/-])1 ([2-9]\d)(?![\w.,])")  # "one seventy five"
_METRES = re.compile(r"(?<![\w.,])([12]) ?m(?:et(?:re|er)s?)? ?(?:and )?([0-9]\d)(?!\d|[.,]\d| ?(?:kg|kilo|lb|%))")
_STONES = re.compile(r"(?<![\w.,])(\d{1,2}) ?(?:stones?|st)[ ,]+(?:and )?(1[0-3]|\d)(?!\d|[.,]\d)(?: ?(?:lbs?|pounds?)\b)?")
_SPAN = re.compile(r"(?<![\w.,])(\d{1,2}) ?(?:years?|yrs?|y),? (?:and )?(\d{1,2}) ?(?:months?|mos?|mths?)\b")


@dataclass(frozen=True, slots=True)
class Figure:
    """A number in the text: where it stands and what it may be."""

    start: int
    value: float
    """As written, larger words counted in ("12k" -> 12000.0), before any unit."""
    readings: dict[str, float] = field(default_factory=dict)
    """Kind of slot -> value in that slot's unit; empty for a figure without a unit."""
    bare: bool = False
    before: str = ""
    after: str = ""


def figures(text: str, kinds: frozenset[str] | set[str]) -> list[Figure]:
    """Figures of a plain text in order; `kinds` are the kinds wanted, which settle "1.5m" (metres or millions)."""
    found: list[Figure] = []

    def take(match: re.Match[str], kind: str, value: float) -> str:
        found.append(Figure(match.start(), value, {kind: value}))
        return "\x00" * len(match[0])

    if {"length", "mass"} & set(kinds):
        text = _ONE_SEVENTY.sub(r"1\1", text)
    if {"length", "mass"} <= set(kinds):
        text = re.sub(r"/(?!o\b)", " ", text)  # "177/79", but not "15 y/o"
    if "length" in kinds:
        text = _FEET.sub(lambda m: take(m, "length", int(m[1] or m[3]) * 30.48 + int(m[2] or m[4]) * 2.54), text)
        text = _METRES.sub(lambda m: take(m, "length", int(m[1]) * 100.0 + int(m[2])), text)
    if "mass" in kinds:
        text = _STONES.sub(lambda m: take(m, "mass", int(m[1]) * 6.35029318 + int(m[2]) * 0.45359237), text)
    text = _SPAN.sub(lambda m: take(m, "years", int(m[1]) + int(m[2]) / 12), text)
    for match in islice(_FIGURE.finditer(text), MOST):
        before, after = text[max(0, match.start() - 28):match.start()], text[match.end():match.end() + 28]
        found.append(Figure(match.start(), *_readings(match, kinds, after), before, after))
    return sorted(found, key=lambda each: each.start)


def _readings(match: re.Match[str], kinds: frozenset[str] | set[str], after: str) -> tuple[float, dict[str, float], bool]:
    written, larger, unit = match["number"], match["larger"], match["unit"]
    value = _float(written)
    factor = _LARGER.get(larger or "", 1.0)
    if unit in ("year", "years", "yr", "yrs") and re.match(r"[ -]olds?\b", after):
        return value, {"number": value}, False
    metres = larger == "m" and not unit and not match["sign"] and "length" in kinds and 0.5 <= value < 2.6
    if metres:
        return value, {"length": value * 100}, False
    if (match["sign"] or unit is None or "money" in _UNITS[unit]) and re.fullmatch(r"\d{1,3}\.000", written):
        value *= 1000  # "21.000" is how half of Europe writes 21,000
    value *= factor
    if match["sign"]:
        return value, {"money": value}, False
    if unit == "in" and "length" not in kinds:  # "put 2500 in"
        unit = None
    if unit is not None:
        return value, {kind: value * each for kind, each in _UNITS[unit].items()}, False
    return (value, {"money": value, "number": value}, False) if larger else (value, {}, True)


def _float(written: str) -> float:
    grouped = re.fullmatch(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?", written)
    return float(written.replace(",", "" if grouped else "."))


def on_the_scale_of(before: float | None, value: float) -> float:
    """An amount that takes the place of a larger one may leave out its thousands: "20,000, no make it 25"."""
    thousands = before and before >= 1000 and before % 500 == 0 and value < 1000
    return value * 1000 if thousands and before / 4 <= value * 1000 <= before * 4 else value


def times_apart(before: object, value: object) -> float:
    """How many times the larger is the smaller; 1 for what is no number, endless where nothing positive was there before."""
    if not isinstance(value, float):
        return 1.0
    return max(before / value, value / before) if isinstance(before, int | float) and before > 0 < value else math.inf


# ---- which figure answers which slot

_CUES = {  # what stands just before a bare figure of the kind
    "money": r"loan(?: of)?|mortgage(?: of)?|borrow(?:ing)?|amount(?: is| of)?|deposit|invest|put|have|save",
    "percent": r"at|rate(?: is| of| was| were)?|apr(?: of)?|interest(?: of)?|earns|yield|pays|gives?|say",
    "years": r"over|for|in|after|term(?: of)?|horizon(?: is| of)?|years|another|within",
    "number": r"i'?m|i am|aged?(?: is)?|turning|turned|he'?s|she'?s|being|now",
    "length": r"height(?: is)?|tall|i'?m|i am|measure|at",
    "mass": r"weight(?: is)?|weigh(?:s|ing)?|now|and|at",
}
_CUED = {kind: re.compile(rf"\b(?:{words})[ ,:=]*(?:about |around |roughly |only |just )?$"
                          + ("|@ ?$" if kind == "percent" else "")) for kind, words in _CUES.items()}
_RANGES = {"money": (100, 1e12), "percent": (0, 40), "years": (0.25, 60), "number": (10, 110), "length": (1.2, 230),
           "mass": (30, 300)}
_POSSIBLE = {"percent": (0, 100), "years": (0, 100), "number": (0, 150), "mass": (2, 1e15)}  # even in answer to a question
_ASIDE = re.compile(r"^ ?(?:a|per|every|each|/) ?(?:month|mo|week|wk|day)\b|^ (?:monthly|weekly|down|ago|now)\b")
_OUTCOME = re.compile(r"\b(?:becomes?|down to|grow to|reach|into|adding|after|paying|paid|past|last|down|fell|lost|gained|lose|used to be)"
                      r"(?: by)? $")


# A second figure of a kind is read by words of its own: what is added each month beside an amount, an age beside a height.
_A_MONTH = r"(?:(?:a|per|each|every) (?:month|mo)|monthly)\b"
_EACH_MONTH = re.compile(rf"^ ?{_A_MONTH}(?! (?:payment|interest|compound))")
_MONTHLY = re.compile(
    rf"(?<!compounded )(?<!compounding )(?<!paid )\b{_A_MONTH}(?: (?:deposits?|savings?|contributions?|additions?))?"
    r"(?: is| of|:)?(?: (?:i|we)(?:'ll|'d| can| could| will| would)? (?:add|save|put(?: in| aside| away)?|pay in))?"
    r" (?:about |around )?$")
_NOT_PAID_IN = re.compile(r"\b(?:makes?|earns?|yields?|gives?|gets?|brings?(?: in)?|pays? out|withdraw|take out|spend"
                          r"|compound(?:ed|ing)?|interest of) (?:me |us |about |around |only )?$")
_AGED = re.compile(r"\baged?(?: is|:)? $")
_IS_YOUNG = re.compile(r"(?:\b(?:i'?m|i am|(?:s?he|who|son|daughter|child|kid|boy|girl|brother|sister)(?:'?s| is|,)?) "
                       r"(?:only |just |now )?|\()$")


def _apart(name: str, kind: str, wanted: list[tuple[str, str]]) -> bool:
    kinds = [each for _, each in wanted]
    return (name, kind) == ("monthly", "money") and kinds.count("money") > 1 or \
        (name, kind) == ("age", "number") and bool({"length", "mass"} & set(kinds))


def _each_month(figure: Figure) -> float | None:
    said = _EACH_MONTH.match(figure.after) and not _NOT_PAID_IN.search(figure.before) or _MONTHLY.search(figure.before)
    return figure.readings.get("money", figure.value if figure.bare else None) if said else None


def _age(figure: Figure, lone: bool) -> float | None:
    """An age that says so; "I'm 15" only where 15 can be no height and no weight, and is not all that was said."""
    if "number" in figure.readings and "money" not in figure.readings:
        return figure.readings["number"]
    if not figure.bare or figure.value != int(figure.value):
        return None
    young = 2 <= figure.value < 20 and not lone and _IS_YOUNG.search(figure.before) and not re.match(r" \d|\x00", figure.after)
    return figure.value if young or (figure.value <= 120 and _AGED.search(figure.before)) else None


def measures(text: str, wanted: list[tuple[str, str]], asked: str | None) -> dict[str, float]:
    """Values of measured slots from a plain text; no figure serves twice. wanted: (name, kind in `MEASURED`)."""
    kinds = {kind for _, kind in wanted}
    apart = [(name, kind) for name, kind in wanted if _apart(name, kind, wanted)]
    if ("monthly", "money") in apart:
        text = re.sub(r"(?<=\w) ?/ ?(?:month|mo|mth)\b", " a month", text)  # "400/month"
    found, result = figures(text, kinds), {}
    free = list(found)

    def give(name: str, kind: str, figure: Figure, value: float) -> None:
        pounds = kind == "mass" and figure.bare and value >= 90 and _FEET.search(text)  # "5-9 200": who counts in feet ...
        result[name] = round(value * (0.45359237 if pounds else 1.0), 10)
        free.remove(figure)

    for name, kind in apart:
        for each in free:
            value = _each_month(each) if kind == "money" else _age(each, lone=len(found) == 1)
            if value is not None:
                give(name, kind, each, value)
                break
    still = [each for each in apart if each[0] == asked and asked not in result]
    wanted = still + [each for each in wanted if each not in apart]
    for name, kind in wanted:
        typed = [each for each in free if kind in each.readings]
        if kind == "years":
            typed = [each for each in typed if each.readings[kind] <= 100]
        if kind == "money" and name != asked:
            typed = [each for each in typed if not _ASIDE.match(each.after)]
        if kind == "mass":
            typed = [each for each in typed if not _OUTCOME.search(each.before)]
        if kind == "number" and name != asked:
            typed = [each for each in typed if "money" not in each.readings]
        if typed:
            best = min(typed, key=lambda each: (not each.before.rstrip(" :=is").endswith(name), _aside(each, kind, kinds), each.start))
            give(name, kind, best, best.readings[kind])
    for by_name in (True, False):
        for name, kind in wanted:
            cue = re.compile(rf"\b{re.escape(name)}(?: is| of)?[ :=]*$") if by_name else _CUED[kind]
            for each in (free if name not in result else ()):
                value = _plausible(each, kind, name == asked)
                if value is not None and cue.search(each.before):
                    give(name, kind, each, value)
                    break
    for name, kind in sorted(wanted, key=lambda each: each[0] != asked):
        for each in (free if name not in result else ()):
            value = _plausible(each, kind, name == asked)
            if value is not None and (name == asked or _by_rest(kind, each, found, free, kinds, text)):
                give(name, kind, each, value)
                break
    return result


def _aside(figure: Figure, kind: str, kinds: set[str]) -> int:
    """0 for the figure that a question is about, 1 and 2 for those that are told beside it."""
    if _ASIDE.match(figure.after) or _OUTCOME.search(figure.before):
        return 2
    if kind == "years":  # "I sell in 7 years; the mortgage is 320k over 30 years"
        return int("money" in kinds and figure.before.endswith(" in "))
    return int(kind == "money" and not re.search(r"\b(?:borrow(?:ed|ing)?|loan of|mortgage of|need|so)\W*$", figure.before))


def _plausible(figure: Figure, kind: str, asked: bool) -> float | None:
    """The value of a bare figure as this kind, or None where nobody would mean that."""
    value = figure.value
    if not figure.bare:
        return None
    if kind == "length":
        if 1.2 <= value <= 2.3 and value != int(value):
            return value * 100
        return value if 100 <= value <= 230 else 30.48 * value if asked and value in (4, 5, 6, 7) else None
    if asked:
        return value if _POSSIBLE.get(kind, (0, 1e15))[0] <= value <= _POSSIBLE.get(kind, (0, 1e15))[1] else None
    dated = re.search(r"\b(?:in|since|by|until|year) $", figure.before) and 1900 <= value <= 2100
    low, high = _RANGES[kind]
    return value if low <= value <= high and not dated and not (kind == "money" and _ASIDE.match(figure.after)) else None


def _by_rest(kind: str, each: Figure, found: list[Figure], free: list[Figure], kinds: set[str], text: str) -> bool:
    """Whether a figure with neither unit nor cue is this kind, going by the figures beside it."""
    others = {kind for other in found for kind in other.readings}
    if kind == "money":
        larger = any(other.bare and other.value >= 1000 for other in free)
        return not _OUTCOME.search(each.before) and not (larger and each.value < 1000)
    if kind == "percent":  # "45k, 7 years, 6.9"
        return each.value != int(each.value) and bool(others & {"money", "years"} or len(found) > 1)
    if kind == "number":
        if re.search(r"\b(?:at|by|until|till|before)(?: age)? $", each.before):  # "I retire at 60"
            return False
        return len(text.split()) <= 12 and len([one for one in free if one.bare]) == 1 and each.value == int(each.value)
    return kind in ("length", "mass") and {"length", "mass"} <= kinds and len(found) > 1
