"""Slot values and small moves ("yes", "never mind", "no, the other one") read from what a person wrote.

Knows the kinds of slots that a domain may name, names and free words, and that people correct themselves; does not know
intents, sessions or tools. Figures, dates, times, sums, numbers of things and options have rooms of
their own: `quantities`, `moments`, `sums`, `choices`.
"""

from __future__ import annotations

import csv
import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from agent import choices, moments, quantities, spoken, sums

_WORD = re.compile(r"[^\W_]+")
FUZZY = 0.85
"""Least difflib ratio at which a misspelt name counts."""
_TRIED = 100  # unknown words and pairs that are compared with the names; a person's message has fewer


@dataclass(frozen=True)
class NameTable:
    """Names that people may say for the entries of one table."""

    names: dict[str, str]
    """Spoken form, lower case -> canonical name."""

    @classmethod
    def load(cls, csv_path: str | Path) -> Self:
        """Read the columns `name` and `aliases` (separated by ';'); raises OSError, or KeyError for a missing column."""
        with Path(csv_path).open(encoding="utf-8", newline="") as file:
            rows = [(row["name"].strip(), row["aliases"] or "") for row in csv.DictReader(file)]
        said = {alias.strip().lower(): name for name, aliases in rows for alias in aliases.split(";") if alias.strip()}
        return cls(said | {name.lower(): name for name, _ in rows})

    def find(self, text: str) -> list[str]:
        """Canonical names in order of appearance, each once: the longest form at each word, then near misspellings."""
        words, forms, starts, found, at = _WORD.findall(text.lower()), self._forms, self._starts, [], 0
        misses: dict[str, int] = {}
        while at < len(words):
            for size in range(starts.get(words[at], 0), 0, -1):
                if name := forms.get(" ".join(words[at:at + size])):
                    found.append((at, name))
                    break
            else:
                size = 1
                if len(misses) < _TRIED:
                    misses.setdefault(words[at], at)
                    misses.setdefault(" ".join(words[at:at + 2]), at)
            at += size
        found += [(at, name) for form, at in misses.items() if (name := self._near(form))]
        return list(dict.fromkeys(name for _, name in sorted(found)))

    def _near(self, form: str) -> str | None:
        # One letter more or less at most: "prednisolone" and "esomeprazole" are other medicines than the
        # "prednisone" and "omeprazole" in their middle, and no ratio tells them from a slip.
        if len(form) < 5:
            return None
        letters = _letters(form)  # as bits: forms that differ in many letters cannot be near
        near = sorted((unlike, each) for each, other in self._spelt
                      if abs(len(each) - len(form)) <= 1 and (unlike := (other ^ letters).bit_count()) <= 3)
        scored = [(difflib.SequenceMatcher(None, form, each).ratio(), each) for _, each in near[:5]]
        ratio, best = max(scored, default=(0.0, ""))
        return self._forms[best] if ratio >= FUZZY else None

    @cached_property
    def _forms(self) -> dict[str, str]:
        return {" ".join(_WORD.findall(said.lower())): name for said, name in self.names.items()}

    @cached_property
    def _starts(self) -> dict[str, int]:
        """First word -> most words of a form that starts with it."""
        return {form.split()[0]: form.count(" ") + 1 for form in sorted(self._forms, key=lambda each: each.count(" ")) if form}

    @cached_property
    def _spelt(self) -> list[tuple[str, int]]:
        return [(form, _letters(form)) for form in self._forms if len(form) >= 5]


def _letters(form: str) -> int:
    return sum(1 << each for each in {ord(letter) & 31 for letter in form})


def read(text: str, slots: Sequence[tuple[str, str]], *, tables: Mapping[str, NameTable], now: datetime,
         asked: str | None = None) -> dict[str, Any]:
    """The values that a message gives for slots of (name, kind); only slots that were said are in the result.

    `asked` is the slot just asked for, which a bare answer fills. money, percent, number: float. years, cm, kg: float.
    date 'YYYY-MM-DD', never before `now`; time 'HH:MM'. In a correction ("not X but Y", "I meant Y") Y counts.
    A table that is missing from `tables` fills nothing. Never raises on any text; reads its first 10,000 characters.
    A kind may carry the "?" of an optional slot.
    """
    slots = [(name, kind.removesuffix("?")) for name, kind in slots]
    message = spoken.tidy(text)
    dropped, kept, instead = _corrected(message)
    result = _read_once(kept, slots, tables, now, asked)
    if instead:
        earlier = result or _read_once(dropped, slots, tables, now, None)
        only = asked or (next(iter(earlier)) if len(earlier) == 1 else None)
        for name, value in _read_once(instead, slots, tables, now, only).items():
            result[name] = quantities.on_the_scale_of(earlier.get(name), value) if dict(slots)[name] == "money" else value
    for name, kind in slots:
        if kind == "text" and (said := _text(name, message, instead, asked == name, bool(result))):
            result[name] = said
    return {name: result[name] for name, _ in slots if name in result}


_NOT_BUT = re.compile(r"(?i)\bnot (?!sure|only|just)([^.!?]{1,40}?),? (?:but|it'?s) (.+)")
_MEANT = re.compile(r"(?i)\b(?:i mean[t]?|scratch that|correction|(?:no|oops|wait),? (?:wait|sorry)|sorry,? no|"
                    r"(?:no|sorry|wait|actually|rather)[, ]+(?:make (?:it|that)|it'?s))\b"
                    rf"|[,.;-]+ ?(?:no|sorry|wait|actually|rather)[, ]+(?=[$€£]?\d|(?:{spoken.NUMBER})\b)")
_AND_NOT = re.compile(r"(?i)(?:, not|,? instead of|,? rather than)\b")


def _corrected(message: str) -> tuple[str, str, str]:
    """(what was taken back, what stays, what takes its place); the last is empty where nothing is corrected."""
    if match := _NOT_BUT.search(message):
        return match[1], message[:match.start()], match[2]
    if match := _MEANT.search(message):
        return "", message[:match.start()], message[match.end():]
    if match := _AND_NOT.search(message):  # "7 years, not 5": what stands first wins
        return "", message, message[:match.start()]
    return "", message, ""


def _read_once(message: str, slots: Sequence[tuple[str, str]], tables: Mapping[str, NameTable], now: datetime,
               asked: str | None) -> dict[str, Any]:
    """Values of all slots but texts, from a message without corrections."""
    if not message:
        return {}
    result: dict[str, Any] = {}
    plain = spoken.plain(message)
    for name, kind in slots:
        if kind.startswith("id:"):
            result[name] = choices.code(message, kind[3:], name, asked=asked == name)
            if asked == name and not result[name]:  # digits said in words
                result[name] = choices.code(plain, kind[3:], name, asked=True)
        elif kind.startswith("choice:"):
            result[name] = choices.option(message.lower(), kind[7:].split("|"), asked=asked == name)
    for table in dict.fromkeys(kind[5:] for _, kind in slots if kind.startswith("name:")):
        names = tables[table].find(message) if table in tables else []
        mine = [name for name, kind in slots if kind == f"name:{table}"]
        if len(names) == 1 and asked in mine:
            mine = [asked]
        result |= dict(zip(mine, names, strict=False))
    for name, kind in slots:
        if kind == "date":
            day = moments.day(plain, now.date(), asked=asked == name)
            result[name] = day and day.isoformat()
        elif kind == "time":
            result[name] = moments.clock(plain, asked=asked == name)
        elif kind == "expression":
            result[name] = sums.sum_of(plain)
    if measured := [(name, kind) for name, kind in slots if kind in quantities.MEASURED]:
        result |= quantities.measures(plain, measured, asked)
    return {name: value for name, value in result.items() if value is not None}


# ---- free words

_LEAD = re.compile(
    r"(?i)^(?:(?:oh|ok|okay|well|so|um|yes|sure|sorry|actually|no|hi|hello|please|i mean[t]?|it'?s|it is|that'?s|its|about|regarding|"
    r"the reason is|because(?: of)?|for(?= my\b)|(?:my |the )?(?:new |full )*(?:delivery )?address(?: is|:)|(?:change|update|send|"
    r"deliver|ship) (?:it|this|that) to|to(?= \d))(?:[,:.]+ ?| |$))+")
_TAIL = re.compile(r"(?i)\b(?:please|pls|thanks|thank you|instead)\b[ .!,]*$")
_REASON = re.compile(r"(?i)\b(?:reason(?: is|:)|about|because of|because|regarding|due to|to discuss|for)[ :]+(?!(?:about|for) )")
_DAYS = r"(?:mon|tues?|wednes|thurs?|fri|satur|sun|to)day|tomorrow|tonight|mon|tue|wed|thu|fri|" \
        r"(?:jan|febr)uary|march|april|may|june|july|august|(?:sept|nov|dec)ember|october|jan|feb|mar|apr|jun|jul|aug|sep|oct|nov|dec"
_REASON_END = re.compile(rf"(?i)[,.;?!]| (?:please|pls|thanks?|thank you|{_DAYS}|\d{{1,2}}(?: ?[ap]m|:\d\d| (?:{_DAYS})))\b| (?:on|at|next|this"
                         r"|by) ?(?=$|\d|\w*day\b|week|month|noon|the \d|half)")
_NO_REASON = re.compile(
    rf"(?i)^(?:$|\d|(?:the |an? |my |next |this |some )*(?:\d|(?:{_DAYS}|today|(?:new |free |first |earliest |later )*(?:appointments?|appts?"
    r"|slots?|bookings?|visit|time|day|date|week|morning|afternoon|evening|noon|months|years|weeks|ages|clinic|doctor|dr|nurse|myself|husband"
    r"|wife|son|daughter|mother|father|mum|mom|dad|kids?|child|children|baby|partner|little (?:girl|boy)))\b(?!'s))"
    r"|(?:me|us|him|her|them|it|that|one|two|next|this)$)")
_STREET = re.compile(
    r"(?i)\b(?:street|st|road|rd|avenue|ave|lane|ln|drive|close|court|ct|way|square|sq|place|pl|crescent|terrace|gardens?|row|hill|blvd|view"
    r"|boulevard|park|quay|mews|grove|green|flat|apartment|apt|suite|unit|po box|\w*stra(?:ss|ß)e|\w*weg|\w*platz|rue|via|calle)\b")
_TO = re.compile(r"(?i)\b(?<!not )(?:to|address(?: is|:)?|is now|(?:correct|right|new) (?:one|address) is)[ :]+(?=\S)")
_ADDRESS_END = re.compile(r"(?i)(?<!\bst)(?<!\brd)(?<!\bno)(?<!\bave)(?<!\bapt)[.!?](?= |$)|[!?]|,? (?:please|pls|thanks|instead|not|rather than)\b")
_NO_ADDRESS = re.compile(r"(?i)(?:change|update|deliver|send|move|correct|ship|go|be|get|have|add|put|him|her|them|me)\b|.*\bit'?s\b")
_WISH = re.compile(
    r"(?i)\b(?:(?:and |so |but )?(?:i|we)(?:'d| would| want| need| wish|'m| am)?[^.,!?]{0,30}?(?:make|file|log|raise|submit|lodge|complain)\b"
    r"[^.,!?]{0,12}?complain\w*(?: about| against)?|how (?:do|can) (?:i|we)[^.,!?]{0,40}complain\w*(?: about)?|log [^.,!?]{0,12}complaint)")
_TOLD = re.compile(r"(?i)\b(?:was|were|had|has|have|did|didn'?t|came|left|threw|broke|told|said|rang|drove|lied|never|nobody|no one|rude|still|"
                   r"waiting|hung|keeps?|isn'?t|wasn'?t|won'?t|lost|late|sent|went|took|got|gave|\w{3,}ed)\b")


def _text(name: str, message: str, instead: str, asked: bool, others: bool) -> str | None:
    """A free text: the whole answer when asked, else what the slot's own reading finds in the message."""
    if asked:
        if others and is_correction(message):
            return None  # the answer set another slot right and says nothing for this one
        return _TAIL.sub("", _LEAD.sub("", instead if instead and name == "address" else message)).strip(" ,;") or None
    reading = {"reason": _reason, "address": _address, "summary": _summary}.get(name)
    return reading(message) if reading else None


def _reason(message: str) -> str | None:
    for match in _REASON.finditer(message):
        end = _REASON_END.search(message, match.end())
        said = message[match.end():end.start() if end else None].strip(" \"'")
        said = re.sub(r"(?i) (?:on|at|in|for|by|the)$", "", said)
        if len(said) > 1 and not _NO_REASON.match(said):
            return said
    return None


def _address(message: str) -> str | None:
    for match in list(_TO.finditer(message))[:-20:-1]:
        end = _ADDRESS_END.search(message, match.end())
        said = message[match.end():end.start() if end else None].strip(" ,.;\"'")
        rest = re.sub(r"\b[A-Za-z]{1,4}-?\d{3,}\b", "", said)
        if re.search(r"\d", rest[:40]) and (_STREET.search(rest) or "," in rest) and not _NO_ADDRESS.match(said):
            return said
    return None


def _summary(message: str) -> str | None:
    told = _WISH.sub(" ", message)
    return message if len(message.split()) >= 7 and len(told.split()) >= 5 and _TOLD.search(told) else None


# ---- small moves

_OH = r"(?:(?:oh|ok|okay|well|um|actually|please|sorry|wait|hmm|hold on|and|just|so|right|ah|no problem|no worries)[,. ]+)*"
_YES = re.compile(
    rf"{_OH}(?:yes|yeah|yep|yup|ya|yea|aye|(?:i )?confirm(?:ed)?|correct|go ahead|go for it|please do|do (?:it|that)|of course|absolutely|definitely"
    r"|exactly|indeed|affirmative|that(?:'?s| is) (?:right|correct|fine|it|the one)|sounds (?:good|right|great)|i(?: a|')?m sure)\b")
_WEAK_YES = re.compile(r"(?:ok|okay|okey|sure|right|fine|great|perfect|good|alright|all right|k|y|lovely|cool)\b(?:[ ,.!]+(?:ok|then|thanks?|thank you"
                       r"|please|sure|fine|great|with me|by me|thing|do it))*[ .!]*")
_NO = re.compile(
    rf"{_OH}(?:no(?! (?:one|idea|problem|worries|longer|more|parcel|order|reply|answer|clue|delivery)\b)|nope|nah|n|negative|wrong|incorrect|not (?:that"
    r"|this|now|yet|really|quite|right|correct|so|it)\b(?! sure)|(?:please )?(?:don'?t|do not)(?! (?:know|have|remember|want|need|like))|i (?:don'?t|do not)"
    r" (?:think so|want (?:that|to))|that(?:'?s| is) (?:not|wrong)|absolutely not|of course not|rather not)\b")
_CANCEL = re.compile(
    rf"{_OH}(?:no[, ]+|you know what[, ]+|let'?s |can (?:you|we) |thanks[, ]+)*(?:never ?mind|nvm|(?:forget|scrap) (?:about )?(?:it|that|this)"
    r"|(?:cancel|stop|drop|leave|abort|skip)(?: (?:it(?: there| at that| be)?|that|this|the whole thing|here))?|i(?:'?ve| have)? changed my mind about (?:it"
    r"|this|that)|don'?t bother|quit|exit)(?:(?:,? (?:please|thanks|thank you|then|now|for now|actually|after all))*[.! ]*$|[,.!;]| i(?:'?ll| will| found)\b)")
_FOLLOW = re.compile(rf"{_OH}(?:and|what about|how about|also|same|what if|what then|but (?:what|if|how)|or (?:what|if|for|with)|with|then|instead)\b")
_LEANING = re.compile(
    r"(?:over|for|(?:together |along )?with|at|in|after|until|to|or|but|then|by|from|on)\b|.*\b(?:that|those|them|instead|then|same|both|the other)\b|.*\bit\W*$"
    r"|(?:why|how so|how come|really|which one|since when|such as|like what|go on|tell me more|more)\b|\D{0,8}\d\S*(?: \S+){0,2}$")
_GREETING = re.compile(r"(?:hi|hello|hey|good (?:morning|afternoon|evening|day)|thanks?|thank you|cheers|bye|goodbye|that'?s (?:all|great|fine))\b(?!,? (?:and|what|how) )")
_CORRECTION = re.compile(
    rf"\bi meant\b|^no\b.{{0,12}}\bi said\b|\b(?:no|oops),? (?:wait|sorry)[, ]+\w|^{_OH}i mean\b|\b(?:scratch that|my mistake|my bad|typo)\b|^(?:no, )?correction\b"
    rf"|^{_OH}(?:can you |could you )?make (?:it|that) |\b(?:actually|sorry|no|wait|oops|rather)[,. -]+(?:no[,. ]+)?(?:(?:make|change) (?:it|that)|it'?s|it (?:is|was)"
    r"|should be|let'?s (?:say|do|make))\b|\bnot (?!sure|only|just)[^.!?]{1,30}?,? but |^(?!.{0,60}as described).{1,60}, not \S.{0,30}$|^it'?s not .{1,30}?,? it'?s "
    r"|^(?=.*\d).{1,40}?\b(?:actually|rather|i mean)[.! ]*$")
_TAKE_BACK = re.compile(
    r"(?:(?:hm+|oh|ah|well|ok|okay)[,. ]+)*(?:no|nope|sorry|oops|wait|actually|wrong|typo)(?:[,. ]+(?:no|sorry|wait))*[,. -]+(?!(?:thanks?|thank|please|don'?t|do|cancel|leave|stop|i|i'?(?:m|ll|ve)|go"
    r"|way|problem|worries|need|that|it|not|what|who|why|how|when|where|can|could|is|are|nothing|never|idea|one|more|longer|you|we|the|a|forget|yes|ok|no|to)\b)\w"
    r"|(?:(?:hm+|oh|ah|well)[,. ]+)*(?:no|sorry|oops|wait|actually)\b.*\d")


def _said(text: str) -> tuple[str, int]:
    said = spoken.tidy(text).lower()
    return said, len(said.split())


def is_yes(text: str) -> bool:
    """Whether a message agrees to what was proposed; a "yes, but ..." and a question do not."""
    said, words = _said(text)
    if "?" in said or is_no(text) or re.search(r"\b(?:but|except|instead|however)\b", said):
        return False
    return bool(words <= 12 and _YES.match(said) or _WEAK_YES.fullmatch(said))


def is_no(text: str) -> bool:
    """Whether a message refuses what was proposed; "no, LK-10233" does too, so ask `is_correction` first."""
    said, words = _said(text)
    return words <= 12 and bool(_NO.match(said))


def is_cancel(text: str) -> bool:
    """Whether a message gives up what is under way. "cancel my order" is a wish; "changed my mind" alone may be a reason."""
    return bool(_CANCEL.match(_said(text)[0]))


def is_follow_up(text: str) -> bool:
    """Whether a message leans on what went before: "and over 10 years?", "what about X", "is that a lot?"."""
    said, words = _said(text)
    if not said or _GREETING.match(said) or is_cancel(text):
        return False
    later = re.search(r"[,.;!] (?=(?:what|how) (?:about|if)\b)", said)  # "too much. what about 8 years?"
    return bool(words <= 25 and _FOLLOW.match(said, later.end() if later else 0) or words <= 8 and _LEANING.match(said))


def is_correction(text: str) -> bool:
    """Whether a message sets right what was said or understood: "no, LK-10233", "I meant 7 years", "not X but Y"."""
    said, words = _said(text)
    return bool(words <= 25 and _CORRECTION.search(said) or words <= 8 and "?" not in said and _TAKE_BACK.match(said))
