"""Which number of a thing, and which of the offered options, a person names in a message."""

from __future__ import annotations

import re
from collections.abc import Callable

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
    after = re.compile(r"\b(?:FOR|OF|ABOUT) $")  # a long number there is no sum and no date
    for match in _DIGITS.finditer(message):
        before = message[max(0, match.start() - 24):match.start()]
        said = named.search(before) or len(match[0]) >= 5 and after.search(before)
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
