"""A person's message made plain before values are read from it: one line, straight signs, number words as digits.

Patterns here and in the rooms that read values are linear on the short lines that `tidy` and `plain` return.
"""

import re

LONGEST = 10_000
"""Characters of a message that are read; what stands after them is left alone."""
MOST = 40
"""Figures or moments that are looked at; a person's message has fewer."""

_ONES = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen " \
    "seventeen eighteen nineteen"
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_SAID = {word: n for n, word in enumerate(_ONES.split())} | {w: 20 + 10 * n for n, w in enumerate(_TENS.split())}
_LARGE = {"hundred": 100, "thousand": 1_000, "million": 1_000_000}
_WORD = "|".join(sorted(_SAID, key=len, reverse=True))
# "one" and "a" are numbers only before something counted: "the wrong one" is not a figure.
NUMBER = _WORD
"""Pattern of a number word up to ninety."""
_SPOKEN = re.compile(rf"\b(?:a(?= (?:hundred|thousand|million)\b)|{_WORD})(?:(?:-| and | )(?:{_WORD}|hundred|thousand"
                     r"|million)\b)*(?<!\ba)(?!\w)|\ba (?:hundred|thousand|million)\b")
_COUNTED = re.compile(r"one(?= (?:year|month|percent|per cent|met(?:er|re)|o'?clock|half|point|third|quarter)|$)")
ORDINAL = {w: n for n, w in enumerate(("first second third fourth fifth sixth seventh eighth ninth tenth eleventh "
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