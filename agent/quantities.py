"""Single values in a person's words: measured figures, dates, times, sums, numbers of things and options.

Knows how people write them, and which figure answers which slot when several stand in one message; does not know name
tables, free words, corrections or the dialogue. Patterns are linear on the short lines that `tidy` and `plain` return.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from itertools import islice

LONGEST = 10_000
"""Characters of a message that are read; what stands after them is left alone."""
_MOST = 40  # figures looked at; a person's message has fewer
MEASURED = ("money", "percent", "years", "length", "mass", "number")

_ONES = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen " \
    "seventeen eighteen nineteen"
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_SAID = {word: n for n, word in enumerate(_ONES.split())} | {w: 20 + 10 * n for n, w in enumerate(_TENS.split())}
_LARGE = {"hundred": 100, "thousand": 1_000, "million": 1_000_000}
_WORD = "|".join(sorted(_SAID, key=len, reverse=True))
# "one" and "a" are numbers only before something counted: "the wrong one" is not a figure.
_SPOKEN = re.compile(rf"\b(?:a(?= (?:hundred|thousand|million)\b)|{_WORD})(?:(?:-| and | )(?:{_WORD}|hundred|thousand"
                     r"|million)\b)*(?<!\ba)(?!\w)|\ba (?:hundred|thousand|million)\b")
_COUNTED = re.compile(r"one(?= (?:year|month|percent|per cent|met(?:er|re)|o'?clock|half|point|third|quarter)|$)")
_ORDINAL = {w: n for n, w in enumerate(("first second third fourth fifth sixth seventh eighth ninth tenth eleventh "
            "twelfth thirteenth fourteenth fifteenth sixteenth seventeenth eighteenth nineteenth").split(), 1)} | {
            "twentieth": 20, "thirtieth": 30}
_REWRITES = tuple((re.compile(said), meant) for said, meant in (
    (r"\b(?:uh|um|er|erm)\b,? ?", ""),
    (r"\b(?:a|one) year and a half\b|\bone and a half years?\b", "1.5 years"),
    (r"\bhalf a (?=million|year)", "0.5 "), (r"\b(?:a )?quarter of a million\b", "0.25 million"),
    (r"\b(in|for|over|within|after|another) a (?=year|month|decade)", r"\1 1 "), (r"\ba couple of years\b", "2 years"),
    (r"\b40[13]k\b", "plan"),
))
_FINISH = tuple((re.compile(said), meant) for said, meant in (
    (r"(?<=\d) point (?=\d)", "."),
    (r"(?<![\d.,/])(\d{1,6})(?: and a half| 1/2)\b", r"\1.5"), (r"(?<=\d) (years?|percent) and a half\b", r".5 \1"),
    # A range of years counts as its shorter end: the cautious reading.
    (r"(?<!from )(?<![\d.])(\d{1,2}) ?(?:-|to|or) ?\d{1,2}(?= ?-?(?:years?|yrs?)\b)", r"\1"),
))
_LOOKS = str.maketrans({"‘": "'", "’": "'", "′": "'", "“": '"', "”": '"', "″": '"', "–": "-", "—": "-", "−": "-",
                        "‑": "-", "½": " 1/2", "×": "x", "÷": "/"})


def tidy(text: str) -> str:
    """One line with straight quotes and plain dashes, at most `LONGEST` characters; letters keep their case."""
    return " ".join(text[:LONGEST].translate(_LOOKS).split())[:LONGEST]


def plain(text: str) -> str:
    """The message as the readers here want it: tidy, lower case, number words as digits ("five" -> "5")."""
    text = tidy(text).lower()
    for said, meant in _REWRITES:
        text = said.sub(meant, text)
    text = _SPOKEN.sub(lambda found: _digits(found, text), text)
    for said, meant in _FINISH:
        text = said.sub(meant, text)
    return text


def _digits(found: re.Match[str], text: str) -> str:
    words = re.split(r"[ -]", found[0])
    if words == ["one"] and not _COUNTED.match(text, found.start()):
        return found[0]
    out: list[str] = []
    total, part, last = 0, None, 0  # last: the size of the word before, 1 ones, 10 teens and tens, 100 and up large
    for word in words:
        value = 1 if word == "a" else _SAID.get(word)
        if value is None and word in _LARGE and part is not None:
            last = _LARGE[word]
            total, part = (total, part * 100) if last == 100 else (total + part * last, 0)
        elif value is not None:
            fits = last == 0 or last >= 100 or (last == 20 and 0 < value < 10)
            if not fits:  # "five ten", "ten thirty": two figures side by side
                out.append(str(total + (part or 0)))
                total, part = 0, 0
            part, last = (part or 0) + value, 20 if value >= 20 else 10
        elif word == "and" and last < 100:
            out += [str(total + (part or 0)), "and"]
            total, part, last = 0, None, 0
    return " ".join([*out, str(total + part)] if part is not None else out)


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
    for match in islice(_FIGURE.finditer(text), _MOST):
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


# ---- which figure answers which slot

_CUES = {  # what stands just before a bare figure of the kind
    "money": r"loan(?: of)?|mortgage(?: of)?|borrow(?:ing)?|amount(?: is| of)?|deposit|invest|put|have|save",
    "percent": r"at|rate(?: is| of| was| were)?|apr(?: of)?|interest(?: of)?|earns|yield|pays|gives?|say",
    "years": r"over|for|in|term(?: of)?|horizon(?: is| of)?|years|another|within",
    "number": r"i'?m|i am|aged?(?: is)?|turning|turned|he'?s|she'?s|being|now",
    "length": r"height(?: is)?|tall|i'?m|i am|measure|at",
    "mass": r"weight(?: is)?|weigh(?:s|ing)?|now|and|at",
}
_CUED = {kind: re.compile(rf"\b(?:{words})[ ,:=]*(?:about |around |roughly |only |just )?$"
                          + ("|@ ?$" if kind == "percent" else "")) for kind, words in _CUES.items()}
_RANGES = {"money": (100, 1e12), "percent": (0, 40), "years": (0.25, 60), "number": (10, 110), "length": (1.2, 230),
           "mass": (30, 300)}
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
    return int(kind == "money" and not re.search(r"\b(?:borrow(?:ed|ing)?|loan of|mortgage of)\W*$", figure.before))


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
        return value if kind != "mass" or value >= 2 else None
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
        return len(text.split()) <= 12 and len([one for one in free if one.bare]) == 1 and each.value == int(each.value)
    return kind in ("length", "mass") and {"length", "mass"} <= kinds and len(found) > 1


# ---- numbers of things

_CODE = re.compile(r"(?<![^\W_])([A-Z]{1,6})[\s#:._-]{0,3}([0-9]{2,12})(?![^\W_])")
_DIGITS = re.compile(r"(?<![^\W_])(?<![.,:-])[0-9]{2,12}(?![^\W_]|[.,:-][0-9]|%)")


def code(message: str, pattern: str, name: str, *, asked: bool = False) -> str | None:
    """The first number of a thing that fits the pattern, in canonical spelling ("lk 10482" -> "LK-10482").

    Bare digits count when the slot was asked for, or after its name, "number" or "#".
    """
    message, lead = message.upper(), re.match(r"[A-Z-]*", pattern)[0]  # type: ignore[index]  # it matches "" too
    for match in _CODE.finditer(message):
        if not match[1].startswith(lead.rstrip("-")):
            continue
        for form in (f"{match[1]}-{match[2]}", match[1] + match[2], f"{match[1]} {match[2]}"):
            if re.fullmatch(pattern, form):
                return form
    if exact := re.search(rf"(?<!\w)(?:{pattern})(?!\w)", message):
        return exact[0]
    named = re.compile(rf"(?:#|\b(?:{re.escape(name.upper())}|NUMBER|NO\.?|NR\.?|ID))[ :#]*(?:IS )?$")
    for match in _DIGITS.finditer(message):
        said = named.search(message[max(0, match.start() - 24):match.start()])
        if (asked or said) and re.fullmatch(pattern, lead + match[0]):
            return lead + match[0]
    joined = lead + re.sub(r"[ -]", "", message)
    return joined if asked and len(joined) < 40 and re.fullmatch(pattern, joined) else None


# ---- options

_BROKE = r"(?:does|did|do)(?:n'?t| not)"
_SYNONYMS = {  # option -> (said at any time, said only in answer to the question)
    "damaged": (r"broken?|cracked|smashed|shattered|faulty|defective|dented|scratched|in (?:bits|pieces)|damage|"
                rf"{_BROKE} work|not working|stopped working", r"dead|torn|leaking"),
    "wrong item": (r"wrong (?:one|thing|product|size|colou?r)|different (?:product|item|one|thing)|sent me the wrong|"
                   r"not (?:what|the one) i (?:had )?ordered|someone else'?s (?:item|order)", r"wrong|different"),
    "not as described": (rf"looks? (?:nothing like|different)|{_BROKE} (?:match|look like)|misleading|different (?:from|to|than)"
                         r" the (?:picture|photo|description)", r"descri\w+|advertised|smaller|bigger"),
    "changed my mind": (rf"(?:{_BROKE}|no longer) (?:want|need|like) (?:it|them|this|that|any ?more)|changed (?:my|our) minds?",
                        rf"{_BROKE} (?:want|need|like)|mind"),
    "never arrived": (r"(?:not|\w+n'?t|never) (?:been )?(?:arrived?|com(?:e|ing)|came|delivered|received?|(?:turn|show)(?:ed|n)? up)"
                      r"|(?:did|have|has)(?:n'?t| not) (?:get|got|received?) (?:it|them|my|the|anything)|never got|lost in the"
                      r" (?:post|mail)", r"lost|missing|nothing came|no parcel"),
    "sell everything": (r"sell (?:it |them )?all|sell (?:the lot|up)|get (?:all )?out", r"everything|cash out|panic"),
    "sell some": (r"sell (?:a )?(?:bit|part|little|half|few)|reduce", r"some|a bit|part|half"),
    "hold": (r"do nothing|sit tight|ride it out|hold on|stay (?:put|invested)|(?:not|\w+n'?t|never) (?:sell|touch)|leave it alone",
             r"hold|keep|wait|nothing|stay"),
    "buy more": (r"buy the dip|buying more|buy (?:some more|extra)|add to it|top up|invest more", r"add|buy|more"),
}
_NEGATED = re.compile(r"(?:\bnot|n't|\bnever|\bisnt|\bwasnt|\bdont)(?: \w{1,8})? $")
_EMPTY = frozenset("a an the it its i my me is was as of to not and or".split())


def option(message: str, options: list[str], *, asked: bool = False) -> str | None:
    """Which of the options a lower-case message names: its own words, then what people say for it, then one word of it."""
    tests: list[Callable[[str], str | None]] = [lambda one: re.escape(one.lower()),
                                                lambda one: _SYNONYMS.get(one, (None, ""))[0]]
    if asked or len(message.split()) <= 4:
        tests += [lambda one: _SYNONYMS.get(one, ("", None))[1], lambda one: _own_words(one, options)]
    for said in tests:
        found = [(match.start(), -len(match[0]), one) for one in options if (words := said(one))
                 for match in re.finditer(rf"\b(?:{words})\b", message)
                 if not _NEGATED.search(message[max(0, match.start() - 24):match.start()])]
        if found:
            return min(found)[2]
    return None


def _own_words(one: str, options: list[str]) -> str | None:
    others = {word for other in options if other != one for word in other.lower().split()}
    return "|".join(re.escape(word) for word in one.lower().split() if word not in others | _EMPTY) or None


# ---- dates and times

_MONTHS = "jan feb mar apr may jun jul aug sep oct nov dec".split()
_MONTH = (r"(jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?"
          r"|nov(?:ember)?|dec(?:ember)?)\b\.?")
_WEEKDAYS = "mon tue wed thu fri sat sun".split()
_WEEKDAY = re.compile(r"\b(?:(last|since|every|past|previous|except|not|but) )?(?:(on|next|this|coming|for) )?(monday|tuesday|wednesday"
                      r"|thursday|friday|saturday|sunday|mon|tues?|wed|thu(?:rs?)?|fri|sat|sun)s?\b( week\b)?")
_NEXT = r"(?=$|[,.;?!)](?!\d)| (?:at|for|please|in|around|about|after|before|if|or|and|with|to|on|of|this|next|today|tomorrow|tonight|" \
        r"then|when|works?|would|morning|afternoon|evening|daily|every|instead|" + "|".join(_WEEKDAYS) + "))"
_DAY = r"(\d{1,2})(?:st|nd|rd|th)?"
_ISO = re.compile(r"(?<!\d)(20\d\d)[-/.](\d{1,2})[-/.](\d{1,2})(?!\d)")
_DAY_MONTH = re.compile(rf"(?<![\d:]){_DAY}(?: of)? {_MONTH}(?:,? (\d{{4}}))?")
_MONTH_DAY = re.compile(rf"\b{_MONTH} (?:the )?{_DAY}(?![\d:])(?:,? (\d{{4}}))?")
_SLASHED = re.compile(r"(?<![\w/.-])(\d{1,2})(?:/(\d{1,2})(?:/(\d{4}|\d\d))?|\.(\d{1,2})\.(\d{4})?|-(\d{1,2})-(\d{4}))(?![\w/])")
_NTH = re.compile(rf"(?<!\d)(\d{{1,2}})(?:st|nd|rd|th)\b{_NEXT}")
_AHEAD = re.compile(r"\bin (?:about )?(\d{1,2}) (day|week)s?\b")
_RELATIVE = (("day after tomorrow", 2), ("tomorrow", 1), ("tmrw", 1), ("tomorow", 1), ("tommorow", 1), ("tommorrow", 1),
             ("today", 0), ("tonight", 0), ("this morning", 0), ("this afternoon", 0), ("this evening", 0))


def day(text: str, today: date, *, asked: bool = False) -> date | None:
    """The day that a plain text names, today or later; a date without a year is its next occurrence, d/m before m/d."""
    text = re.sub(rf"\bthe (?:(twenty|thirty)[- ])?({'|'.join(_ORDINAL)})\b",
                  lambda m: f"the {_ORDINAL[m[2]] + {'twenty': 20, 'thirty': 30}.get(m[1], 0)}th", text)
    text = re.sub(r"\b([23]0)[- ]([a-z]+)\b", lambda m: f"{int(m[1]) + _ORDINAL.get(m[2], 99)}th"
                  if _ORDINAL.get(m[2], 99) < 10 else m[0], text)  # "twenty-seventh", whose "twenty" is 20 already
    for year, month, number in islice(_numbered(text), _MOST):
        found = _next(today, year, month, number)
        if found:
            return found
    for words, ahead in _RELATIVE:
        if re.search(rf"\b{words}\b", text):
            return today + timedelta(days=ahead)
    for match in (*_NTH.finditer(text), *((re.fullmatch(r"(?:the |on the |on )?(\d{1,2})[.!]?", text),) if asked else ())):
        for ahead in range(12 if match and int(match[1]) <= 31 else 0):
            months = today.year * 12 + today.month - 1 + ahead
            found = _on(months // 12, months % 12 + 1, int(match[1]))
            if found and found >= today:
                return found
    if match := _AHEAD.search(text):
        return today + timedelta(days=int(match[1]) * (7 if match[2] == "week" else 1))
    brief = len(text.split()) <= 8
    for match in _WEEKDAY.finditer(text):
        short = match[3] in ("sat", "sun", "wed", "mon", "fri")
        if match[1] or short and not (match[2] or asked or brief and match[3] not in ("sat", "sun")):
            continue
        ahead = (_WEEKDAYS.index(match[3][:3]) - today.weekday() - 1) % 7 + 1
        return today + timedelta(days=0 if match[2] == "this" and ahead == 7 else ahead + (7 if match[4] else 0))
    return None


def _numbered(text: str) -> Iterator[tuple[int | None, int, int]]:
    """(year or None, month, day) of every date written with a month."""
    for m in _ISO.finditer(text):
        yield int(m[1]), int(m[2]), int(m[3])
    for m in _DAY_MONTH.finditer(text):
        yield int(m[3]) if m[3] else None, _MONTHS.index(m[2][:3]) + 1, int(m[1])
    for m in _MONTH_DAY.finditer(text):
        yield int(m[3]) if m[3] else None, _MONTHS.index(m[1][:3]) + 1, int(m[2])
    for m in _SLASHED.finditer(text):
        first, second, year = int(m[1]), int(m[2] or m[4] or m[6]), m[3] or m[5] or m[7]
        number, month = (second, first) if second > 12 >= first else (first, second)
        yield int(year) + (2000 if len(year) == 2 else 0) if year else None, month, number


def _next(today: date, year: int | None, month: int, number: int) -> date | None:
    years = [year] if year else range(today.year, today.year + 9)  # a leap day may be eight years off
    return next((found for each in years if (found := _on(each, month, number)) and found >= today), None)


def _on(year: int, month: int, number: int) -> date | None:
    try:
        return date(year, month, number)
    except ValueError:
        return None


_CLOCKS = tuple(re.compile(form) for form in (
    r"(?<![\d:.,/-])(?P<h>\d{1,2})(?:[:.h ]?(?P<m>[0-5]\d))? ?(?P<half>[ap])\.? ?m\b",
    r"(?<![\d:.,/-])(?P<h>\d{1,2})[:h](?P<m>[0-5]\d)(?![\d:])",
    r"\b(?P<word>noon|midday|midnight)\b",
    r"\b(?P<past>half|quarter|20|25|10|5)(?: minutes)? ?(?P<way>past|to|after) (?P<h>\d{1,2})\b",
    r"\bhalf (?P<h>\d{1,2})\b(?P<past>)(?P<way>)",
    rf"(?:\b(?:at|around|about|time(?: is)?)|@) ?(?P<h>\d{{1,2}})(?:[. ](?P<m>[0-5]\d))?(?: ?o'?clock|ish)?{_NEXT}",
    r"(?<![\d:.,/-])(?P<h>\d{1,2}) ?(?:o'? ?clock|ish)\b",
    r"(?<![\d:.,/-])(?P<h>\d{1,2})h\b",
    rf"(?:day|tomorrow|{'|'.join(_WEEKDAYS)})[ ,]+(?P<h>\d{{1,2}})\.(?P<m>[0-5]\d)(?!\d)",
    r"(?<![\d:.,/-])(?P<h>\d{1,2})(?: ?o'?clock)?(?= in the (?:morning|afternoon|evening)| tonight| at night)",
))
_BARE_CLOCK = re.compile(r"(?:[a-z' ,]{0,24} )?(?P<h>\d{1,2})(?:[:. h]?(?P<m>[0-5]\d))?(?: (?:please|then|thanks|would be \w+|in"
                         r" the \w+|works|is \w+|tomorrow|today))*[.! ]*")
_PAIR = re.compile(r"(?<![\d.:/-])(?P<h>\d{1,2}) (?P<m>[0-5]\d)(?![\d.:/-])")  # "nine thirty"
_VAGUE = re.compile(r"\b(?:before|after|until|till|since|between|by|from)(?: about| around)? $")


def clock(text: str, *, asked: bool = False) -> str | None:
    """The time that a plain text names, 'HH:MM' in 24 hours; 1 to 6 without am or pm is the afternoon."""
    forms = [form.finditer(text) for form in _CLOCKS]
    found = [match for matches in forms for match in matches]
    if asked:
        found += [bare for bare in (_BARE_CLOCK.fullmatch(text), _PAIR.search(text)) if bare]
    anywhere = _HALF_DAY.search(text)
    for match in sorted(found, key=lambda each: each.start()):
        if not asked and _VAGUE.search(text[max(0, match.start() - 16):match.start()]):
            continue  # "after 3 pm" is a wish, not a time
        read = _clock(match.groupdict(), _HALF.match(text[match.end():match.end() + 30]) or anywhere)
        if read:
            return read
    return None


_HALF_DAY = re.compile(r"\b(?:(morning)|afternoon|evening|tonight|at night|every night)\b")
_HALF = re.compile(rf"[^.;]{{0,12}}?{_HALF_DAY.pattern}")


def _clock(said: Mapping[str, str | None], part: re.Match[str] | None) -> str | None:
    if said.get("word"):
        return "00:00" if said["word"] == "midnight" else "12:00"
    hour, minute, half = int(said["h"] or 0), int(said.get("m") or 0), said.get("half")
    if "past" in said:
        minute = {"half": 30, "quarter": 15, "": 30, None: 30}.get(said["past"]) or int(said["past"] or 0)
        if said["way"] == "to":
            hour, minute = (hour - 1) or 12, 60 - minute
    if half:
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + (12 if half == "p" else 0)
    elif hour < 12 and not part[1] if part else 1 <= hour <= 6 and (said["h"] or "")[0] != "0":
        hour += 12
    return f"{hour:02d}:{minute:02d}" if hour < 24 and minute < 60 else None


# ---- sums

_SUM_REWRITES = tuple((re.compile(said), meant) for said, meant in (
    (r"(\d)k\b", r"\1 * 1000"), (r"\b(\d{1,6}) thirds?\b", r"\1/3"), (r"\b(\d{1,6}) (?:quarters|fourths)\b", r"\1/4"),
    (r"\ba third\b", "1/3"), (r"\b(\d{1,2}) cents?\b", lambda m: f"{int(m[1]) / 100:g}"),
    (r"(\d) (?:each|ways|people)\b", r"\1"), (r"\b(?:pct|procent)\b", "percent"),
    (r"\badd (\d[\d.,]{0,20})( ?(?:%|percent))? to ([$€£]?\d[\d.,]{0,20})", r"\3 plus \1\2"),
    (r"\b(?:take )?(\d[\d.]{0,20}) ?(?:%|percent) off (?:of )?([$€£]?\d[\d.,]{0,20}\d|\d)", r"\2 minus \1%"),
    (r"\bwhat percent(?:age)? of ([$€£]?[\d.,]*\d) is ([$€£]?[\d.,]*\d)", r"\2 / \1 * 100"),
    (r"(?<!minus )\b(\d[\d.,]{0,20}) ?(?:%|percent|procent|pct) (?:from|tip on)\b", r"\1% of"),
    (r"\bdivide (\$?[\d.,]+) by\b", r"\1 /"), (r"\bmultiply (\$?[\d.,]+) by\b", r"\1 *"),
    (r"\bsubtract (\$?[\d.,]*\d) from (\$?[\d.,]*\d)", r"\2 - \1"),
    (r"\b(?:increased by|raised by|added to)\b", "plus"), (r"\b(?:reduced by|decreased by|less|take away)\b", "minus"),
    (r"\b(?:split (?:by|between|among)|shared (?:by|between)|divide by)\b", "divided by"),
    (r"(?<=%) ?x ?(?=\d)", " times "), (r"\*\*|\^", " to the power of "), (r"\bsqrt (?=\d)", "square root of "),
    (r"\bsquare root of ?\(", "sqrt("), (r"\b(?:shares|items|units) (?:at|@)(?= )", "times"),
))
_PIECE = re.compile(r"(?P<value>[$€£]?(?!0\d)(?:\d{1,3}(?:,\d{3})+|\d{1,15})(?:\.\d{1,9})?|[$€£]?\.\d{1,9}|\bhalf\b|\ba quarter\b)"
                    r"|(?P<post>%|\bper ?cent\b|\bsquared\b|\bdollars?\b|\beuros?\b|\bpounds?\b)|(?P<open>\()|(?P<close>\))"
                    r"|(?P<pre>\bsquare root of(?= [\d.,]{1,24}(?![\d.,]| ?%| per))|\bsqrt(?= ?\()"
                    r")|(?P<sign>[-+*/]|\b(?:plus|minus|times|multiplied by|divided by|over|of|to the power of)\b"
                    r"|(?:(?<=[\d)])|(?<=[\d)] ))x(?= ?[$€£]?[\d(]))|(?P<space> +)|(?P<other>[a-z']+|.)", re.S)


def sum_of(text: str) -> str | None:
    """The longest sum in a plain text, in words that tools.calculator reads ("15% of 2300"); None without one.

    Looks at 2000 characters and passes over sums longer than the tool's 200.
    """
    text = text[:2000]
    for said, meant in _SUM_REWRITES:
        text = said.sub(meant, text)
    best, begin, depth, signs, last, whole = "", -1, 0, 0, "", (0, 0)  # whole: (end, signs) up to the last complete sum
    for piece in _PIECE.finditer(text + " ;"):  # the ";" ends a sum that ends the text
        kind = piece.lastgroup or ""
        if kind == "space":
            continue
        operand = last in ("value", "post", "close")  # what stands before can be calculated with
        fits = {"value": not operand, "open": not operand, "pre": not operand, "post": last == "value",
                "close": operand and depth > 0, "sign": operand or piece[0] == "-"}.get(kind, False)
        if begin >= 0 and not fits:
            if whole[1] and len(best) < whole[0] - begin <= 200:
                best = text[begin:whole[0]]
            begin, depth, signs, operand, last, whole = -1, 0, 0, False, "", (0, 0)
        if begin < 0:
            if kind not in ("value", "open", "pre") and piece[0] != "-":
                continue
            begin = piece.start()
        signs += kind == "pre" or piece[0] == "squared" or kind == "sign" and operand
        depth, last = depth + {"open": 1, "close": -1}.get(kind, 0), kind
        if depth == 0 and kind in ("value", "post", "close"):
            whole = (piece.end(), signs)
    return best.strip() or None
