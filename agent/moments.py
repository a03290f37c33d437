"""Dates and times of day in a person's words, on the line that `spoken.plain` returns."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from itertools import islice

from agent.spoken import MOST, ORDINAL

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
    text = re.sub(rf"\bthe (?:(twenty|thirty)[- ])?({'|'.join(ORDINAL)})\b",
                  lambda m: f"the {ORDINAL[m[2]] + {'twenty': 20, 'thirty': 30}.get(m[1], 0)}th", text)
    text = re.sub(r"\b([23]0)[- ]([a-z]+)\b", lambda m: f"{int(m[1]) + ORDINAL.get(m[2], 99)}th"
                  if ORDINAL.get(m[2], 99) < 10 else m[0], text)  # "twenty-seventh", whose "twenty" is 20 already
    for year, month, number in islice(_numbered(text), MOST):
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
