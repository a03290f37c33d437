"""The facts of a text that can be compared: numbers, dates, times, telephone numbers and ids.

This room knows how they are written, in English and Chinese, and gives each one spelling. It does not know
where a text came from, nor what a fact means or supports: that is for the guard.

Choices, one for each way numbers are written:
- Value, not spelling: "1,200.00", "$1,200", "1.2k", "twelve hundred" and "1200" are "1200".
  Currencies and units are dropped; a percentage is its own fact ("5%" is not "5"), and so is a sign.
- "6,5" (one or two digits after the comma, no list) is 6.5; "1,200" is a thousand and more.
- "7-10" is both ends; "1/2" (proper, denominator up to 16) is 0.5; "120/80" is both numbers.
- Dates are ISO, day first where both ways can be read; without a year "--11-21", a month "2026-11".
- An id is a fact, as it is written: two or more capitals, a hyphen, three or more digits (LK-10482).
  `loose` reads lk-10482 as the same id. Any other letter-digit token is a word: B12, COVID-19, omega-3.
- "one", "first", "second", "once", "half" claim nothing; `loose` reads them as 1, 2 and 0.5.
- List numbers ("2. "), citation marks ("[2]") and addresses of pages are no facts.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from decimal import Decimal
from fractions import Fraction

# ---- numbers in words ----------------------------------------------------------------------------

_WORDS = {
    word: value
    for value, words in enumerate(
        "zero|one first|two second|three third|four fourth|five fifth|six sixth|seven seventh|"
        "eight eighth|nine ninth|ten tenth|eleven eleventh|twelve twelfth|thirteen thirteenth|"
        "fourteen fourteenth|fifteen fifteenth|sixteen sixteenth|seventeen seventeenth|"
        "eighteen eighteenth|nineteen nineteenth".split("|")
    )
    for word in words.split()
}
_TENS = "twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety".split("|")
_WORDS |= {word: 10 * n for n, word in enumerate(_TENS, start=2)}
_WORDS |= {word[:-1] + "ieth": 10 * n for n, word in enumerate(_TENS, start=2)}
_WORDS |= {"once": 1, "twice": 2, "thrice": 3}
_SCALES = {"dozen": 12, "hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9}
_QUIET = {"one", "first", "once", "second", "half"}
_WORD = "|".join(sorted({*_WORDS, *_SCALES, "half"}, key=len, reverse=True))
_SPELLED = re.compile(
    rf"(?i)(?<![a-zA-Z\d])(?<!\d )(?:{_WORD})(?![a-zA-Z])"
    rf"(?:(?:-| and a | and | )(?:{_WORD})(?![a-zA-Z])){{0,12}}+"
)
_HAN = {char: value for value, char in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2}
_HAN_SCALES = {"十": 10, "百": 100, "千": 1000}
# One character alone counts only before a measure word: 三天 is 3 days, 三明治 is a sandwich.
_HAN_NUMBER = re.compile(
    r"(?P<sign>百分之|第)?(?P<n>[一二三四五六七八九两十〇][零〇一二三四五六七八九两十百千万]{0,20}+)"
    r"(?P<unit>(?=[天日月年个次片粒元块岁点周号倍位件名种只盒支滴克条章级]|小时|分钟|毫克|毫升|公斤|公里))?"
)


def _numerals(text: str, loose: bool) -> str:
    """Return `text` with numbers in words as digits; `loose` counts "one" and its kin as well."""

    def english(match: re.Match[str]) -> str:
        words = [word for word in re.split(r"[- ]", match.group().lower()) if word in _ALL]
        alone = len(words) == 1 and words[0] in _QUIET
        return match.group() if alone and not loose else " ".join(map(_canonical, _count(words)))

    def chinese(match: re.Match[str]) -> str:
        run, sign = match["n"], match["sign"] or ""
        plain = not sign and match["unit"] is None and len(run) == 1
        a_or_one = run == "一" and sign != "百分之" and text[match.end() :][:1] not in "月日号点"
        if plain or (a_or_one and not loose):
            return match.group()
        return f" {_han_value(run)}%" if sign == "百分之" else f"{sign} {_han_value(run)}"

    return _SPELLED.sub(english, _HAN_NUMBER.sub(chinese, text))


_ALL = {*_WORDS, *_SCALES, "half"}


def _count(words: Sequence[str]) -> list[Fraction]:
    """Add up number words: two hundred fifty -> [250]; five six -> [5, 6]; nine one one -> [911]."""
    if len(words) > 2 and all(_WORDS.get(word, 10) < 10 for word in words):
        return [Fraction("".join(str(_WORDS[word]) for word in words))]
    found: list[Fraction] = []
    total = part = Fraction(0)  # of the number under way: what a thousand closed, and what it did not
    room = 0  # what may still be added to `part`: below 10 after twenty, below 100 after a hundred
    for word in words:
        value = _WORDS.get(word)
        if word == "half":
            part, room = part + Fraction(1, 2), 0
        elif value is None and _SCALES[word] >= 1000:
            total, part, room = total + (part or Fraction(1)) * _SCALES[word], Fraction(0), 1000
        elif value is None:
            part, room = (part or Fraction(1)) * _SCALES[word], 100
        elif value < room:
            part, room = part + value, 10 if value >= 20 else 0
        else:
            found += [total + part] if total or part else []
            total, part, room = Fraction(0), Fraction(value), 10 if value >= 20 else 0
    return [*found, total + part]


def _han_value(run: str) -> int:
    if not set(run) & {*_HAN_SCALES, "万"}:
        return int("".join(str(_HAN[char]) for char in run))  # 二〇二六
    total = section = digit = 0
    for char in run:
        if char in _HAN:
            digit = _HAN[char]
        elif char == "万":
            total, section, digit = (total + section + digit) * 10_000, 0, 0
        else:
            section, digit = section + (digit or 1) * _HAN_SCALES[char], 0
    return total + section + digit


# ---- facts ---------------------------------------------------------------------------------------

_MONTHS = "jan feb mar apr may jun jul aug sep oct nov dec".split()
_MONTH = (
    r"(?P<month>jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|(?-i:May|MAY)|june?|july?|"
    r"aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)(?![a-z])\.?"
)
_DAY = r"(?P<day>\d{1,2})(?:st|nd|rd|th)?(?![\d:])"
_DATES = [
    re.compile(r"(?<!\d)(?P<year>\d{4})(?P<s>[-/.])(?P<month>\d\d?)(?P=s)(?P<day>\d\d?)(?!\d)T?"),
    re.compile(r"(?<!\d)(?P<year>\d{4}) ?年 ?(?P<month>\d\d?) ?月(?: ?(?P<day>\d\d?) ?[日号]?)?"),
    re.compile(r"(?<!\d)(?P<month>\d\d?) ?月 ?(?P<day>\d\d?) ?[日号]?"),
    re.compile(
        r"(?<![\w./-])(?P<day>\d\d?)(?P<s>[-/.])(?P<month>\d\d?)(?P=s)(?P<year>\d{4}|\d\d)"
        r"(?![\d/-]|\.\d)"
    ),
    re.compile(rf"(?i)(?<!\d){_DAY} ?(?:of )?{_MONTH}(?:,? (?P<year>\d{{4}})(?!\d))?"),
    re.compile(rf"(?i)(?<![a-z]){_MONTH} (?:the )?{_DAY}(?:(?:,| of)? (?P<year>\d{{4}})(?!\d))?"),
    re.compile(rf"(?i)(?<![a-z]){_MONTH},? (?:of )?(?P<year>\d{{4}})(?!\d)"),
]
_HOURS = r"(?<![\d.,:/])(?P<hour>[01]?\d|2[0-4])"
_TIMES = [
    re.compile(rf"(?i){_HOURS}(?:[:.](?P<minute>[0-5]\d))? ?(?P<half>[ap])\.?m(?![a-z])\.?"),
    re.compile(rf"{_HOURS}:(?P<minute>[0-5]\d)(?::\d\d(?:\.\d{{1,6}})?)?Z?(?![\d:])"),
    re.compile(
        r"(?P<half>凌晨|早上|上午|中午|下午|傍晚|晚上)? ?(?<!\d)(?P<hour>[01]?\d|2[0-4]) ?[点點时時]"
        r"(?: ?(?P<minute>[0-5]\d) ?分?|(?P<thirty>半))?"
    ),
]
_TIME_RANGE = re.compile(
    r"(?i)(?<![\d.,:/])(\d\d?(?:[:.]\d\d)?)( ?(?:-|to|and) ?)(\d\d?(?:[:.]\d\d)?) ?([ap]\.?m)(?![a-z])"
)
_NOT_FACTS = re.compile(
    r"https?://\S++|\[\d{1,2}\]|(?m:^[ \t]*(?:[-*•#]{1,6} ?)?(?:\(?\d{1,2}[.)、]\s|(?i:step) \d{1,2}[.:)]))"
)
_CURRENCY = re.compile(r"(?i)(?<![a-z])(?:eur|usd|gbp|cny|rmb|chf|jpy|rs\.?|us|a)(?=[$€£]?\d|[$€£])")
_LETTER_TOKEN = re.compile(
    r"(?<![A-Za-zÀ-ɏ_\d])[A-Za-zÀ-ɏ_]++[-_]?\d[A-Za-z\d_]*+(?:[-.][A-Za-z\d_]++)*+"
)
_ID = re.compile(r"[A-Z]{2,}-\d{3,}(?:-?[A-Za-z\d_]++)*+")  # at the start of a letter token
_PHONE = re.compile(
    r"(?<![\w.,])(?:(?:\+\d{1,3}[ .-]?)?(?:1[ .-])?(?:\(\d{2,5}\)[ .-]?|\d{3}[ .-])\d{3}[ .-]\d{4}|"
    r"1[3-9]\d[ -]\d{4}[ -]\d{4}|(?:\+\d{1,3}[ .-]?(?:\(0\)[ .-]?)?|0)\d{1,4}(?:[ .-]\d{3,5}){1,3})"
    r"(?![\d,])"
)
_PERCENT = r"(?i:%|per ?cent(?:age points?)?(?![a-z])|pct(?![a-z]))"
_PERCENT_RANGE = re.compile(
    rf"(?<![\d.,])(\d{{1,6}}(?:\.\d{{1,4}})?)%?( ?(?:-|to|and) ?)(\d{{1,6}}(?:\.\d{{1,4}})? ?{_PERCENT})"
)
_FRACTION = re.compile(r"(?<![\d/.,])(?:(\d{1,3}) )?(\d{1,2})/(\d{1,2})(?![\d/])")
_PLAIN = re.compile(
    r"(?P<sign>(?<![\w)%])-)?(?P<money>[$€£¥] ?)?(?P<n>\d{1,3}(?:\.\d{3}){1,6},\d{1,2}(?!\d)|"
    r"\d{1,3}(?:,\d\d){0,4}(?:,\d{3}){1,6}(?!\d)(?:\.\d+)?|\d++(?:\.\d++)++|"
    r"(?<!\d,)\d{1,15},\d{1,2}(?![\d,])|\d++|(?<!\d)\.\d++)"
    r"(?: ?(?P<scale>(?i:hundred|thousand|million|billion|dozen|bn|k)(?![A-Za-z])|[万亿])|"
    rf"(?P<m>[mM])(?![A-Za-z]))?(?P<percent> ?{_PERCENT})?"
)
_FACTORS = _SCALES | {"k": 1000, "bn": 10**9, "万": 10**4, "亿": 10**8}


def facts(text: str, *, loose: bool = False) -> set[str]:
    """Return the canonical numbers, percentages, dates, times, telephone numbers and ids in `text`.

    "8 am on 21 November 2026, 5% of $1,200" gives {"08:00", "2026-11-21", "5%", "1200"}. `loose` reads all
    that a source may support, not only what a sentence claims. The choices are at the top of this file.
    """
    text = _tidy(text, loose)
    found: set[str] = set()

    def take(pattern: re.Pattern[str], read: Callable[[re.Match[str]], set[str]]) -> None:
        nonlocal text

        def note(match: re.Match[str]) -> str:
            read_here = read(match)
            found.update(read_here)
            return " ; " if read_here else match.group()  # what is no date may still be numbers

        text = pattern.sub(note, text)

    for pattern in _DATES:
        take(pattern, _date)
    for pattern in _TIMES:
        take(pattern, _time)
    take(re.compile(r"(?<![\d/])24/7(?![\d/])"), lambda match: {"24/7"})
    tokens = _LETTER_TOKEN.findall(text.upper() if loose else text)
    found.update(id_[0] for id_ in map(_ID.match, tokens) if id_)
    text = _LETTER_TOKEN.sub(" ", text)
    take(_PHONE, lambda match: {re.sub(r"\D", "", match.group().replace("(0)", ""))})
    take(_FRACTION, _fraction)
    take(_PLAIN, _plain)
    return found


def _tidy(text: str, loose: bool) -> str:
    text = re.sub(r"(?<=\d)(?=[¼½¾⅐-⅞])", " ", text)  # NFKC makes "2½" "21/2"
    text = re.sub(r"(?<=\d)[\u00a0\u202f](?=\d{3}(?!\d))", ",", text)  # "1 200", kept together
    text = unicodedata.normalize("NFKC", text).translate(str.maketrans("⁄−–—‐‑", "/-----"))
    text = _NOT_FACTS.sub(" ", text)
    text = re.sub(r"(?i)(?<![a-z])(?:12 )?(?:noon|midday)(?![a-z])", "12:00", text)
    text = re.sub(r"(?i)(?<![a-z])(?:12 )?midnight(?![a-z])", "00:00", text)
    text = re.sub(r"百分之(\d{1,6}(?:\.\d{1,6})?)", r"\1%", _numerals(text, loose))
    text = re.sub(r"(?i)(?<![a-z])minus (?=\d)", "-", text)
    text = _PERCENT_RANGE.sub(r"\1%\2\3", _CURRENCY.sub("$", text))
    return _TIME_RANGE.sub(r"\1 \4\2\3 \4", text)


def _date(match: re.Match[str]) -> set[str]:
    part = match.groupdict()
    name = part["month"][:3].lower()
    month = _MONTHS.index(name) + 1 if name in _MONTHS else int(name)
    day = int(part.get("day") or 0)
    if month > 12 >= day > 0:  # 11/21/2026 can only be the American order
        month, day = day, month
    if not 1 <= month <= 12 or day > 31:
        return set()
    year = part.get("year") or ""
    year = "20" + year if len(year) == 2 else year or "-"
    return {f"{year}-{month:02}" + (f"-{day:02}" if day else "")}


def _time(match: re.Match[str]) -> set[str]:
    part = match.groupdict()
    hour, half = int(part["hour"]), (part.get("half") or "").lower()
    if half in ("p", "下午", "傍晚", "晚上") and hour < 12:
        hour += 12
    elif half in ("a", "凌晨", "早上", "上午") and hour == 12:
        hour = 0
    minute = 30 if part.get("thirty") else int(part.get("minute") or 0)
    return {f"{hour:02}:{minute:02}"}


def _fraction(match: re.Match[str]) -> set[str]:
    whole, top, bottom = (int(group or 0) for group in match.groups())
    return {_canonical(whole + Fraction(top, bottom))} if 0 < top < bottom <= 16 else set()


def _plain(match: re.Match[str]) -> set[str]:
    factor = _FACTORS.get((match["scale"] or "").lower(), 1)
    if match["m"] and match["money"]:  # $5m is money; 5m is a length
        factor = 10**6
    value = _value(match["n"])
    if factor > 1 and len(value) < 20 and value.count(".") < 2:
        value = _canonical(Fraction(value) * factor)
    return {(match["sign"] or "") + value + ("%" if match["percent"] else "")}


def _value(raw: str) -> str:
    if len(raw) > 30 or (raw.count(".") > 1 and "," not in raw) or re.fullmatch(r"0\d{6,}", raw):
        return raw  # no amount: a version, an address, a telephone number, whose zero counts
    if re.search(r",\d{1,2}$", raw):
        raw = raw.replace(".", "").replace(",", ".")
    return _canonical(Fraction(raw.replace(",", "")))


def _canonical(value: Fraction) -> str:
    """Write a number one way: "1200", "6.5", and "2/3" for what no decimal ends."""
    rest = value.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    if rest > 1:
        return f"{value.numerator}/{value.denominator}"
    text = format(Decimal(value.numerator) / Decimal(value.denominator), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
