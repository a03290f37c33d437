"""Rules on each sentence after generation: no number without a source, no forbidden phrase.

This room knows what supports a sentence and what stands in for one that nothing supports. It does not know
how numbers are written (facts) nor where sentences end (sentences), which model wrote a sentence nor where
the sources came from, and it judges no meaning: a sourced number may still be misused.

A source says more than its facts: a date also its year, its month and its day, a time its hour, and "-3"
also "3", for "down 3"; never the reverse, and never an amount of money: "6 pm" does not support "EUR 6".
Ids count as numbers: LK-10482 needs a source that has it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from agent.facts import facts
from agent.sentences import split_sentences

_CJK = "\u3400-\u9fff"
SOURCES = 1024
"""Of which is remembered what they support."""
_OVERLAP = 0.3  # of a sentence's content words, for a source sentence to stand in for it
_STOP_WORDS = frozenset(
    """a about after all also am an and any are as at be been but by can could did do does for from
    had has have he her his how i if in into is it its may more most my no not of on or our out she
    should so than that the their them then there these they this to up us was we were what when
    which who will with would you your""".split()
)


@dataclass(frozen=True)
class Verdict:
    """What became of one sentence."""

    ok: bool
    sentence: str
    """The text to show: the sentence itself, its replacement, or "" where that was said before."""
    flag: str | None = None
    """None, "unsupported_number" or "forbidden"."""


class Guard:
    """The rules for one answer; make a new one for each answer.

    `sources` support numbers and are quoted: passages, tool results. `heard` supports numbers and is
    never quoted: the user's words, history. `forbid` are regexes (any case); `unknown` is what to say
    when no source helps. Raises ValueError for a bad regex.
    """

    def __init__(
        self,
        sources: Sequence[str],
        *,
        numbers_need_source: bool,
        forbid: Sequence[str] = (),
        unknown: str,
        heard: Sequence[str] = (),
    ) -> None:
        self._numbers_need_source = numbers_need_source
        self._forbid = [_compile(pattern) for pattern in forbid]
        self._unknown = unknown
        read = [_read(source) for source in sources]
        self._written = set().union(*(found for found, _ in read), *(facts(text, loose=True) for text in heard))
        self._known = _supported(self._written)
        self._quotable = [pair for _, quotes in read for pair in quotes if not self._is_forbidden(pair[0])]
        self._said: set[str] = set()

    def check(self, sentence: str) -> Verdict:
        """Judge the next sentence of the answer; its outer white space stays round a replacement."""
        if self._is_forbidden(sentence):
            return Verdict(False, self._instead(sentence, self._unknown), "forbidden")
        if self._numbers_need_source and (facts(sentence) - self._known or _amounts(sentence) - self._written):
            return Verdict(False, self._instead(sentence, self._quote(sentence)), "unsupported_number")
        self._said.add(sentence.strip())
        return Verdict(True, sentence)

    def _is_forbidden(self, text: str) -> bool:
        text = unicodedata.normalize("NFKC", text).replace("’", "'")
        return any(pattern.search(text) for pattern in self._forbid)

    def _quote(self, sentence: str) -> str:
        wanted = _content(sentence)
        shares = [len(wanted & words) / max(len(wanted), 1) for _, words in self._quotable]
        best = max(shares, default=0.0)
        return self._quotable[shares.index(best)][0] if best >= _OVERLAP else self._unknown

    def _instead(self, sentence: str, replacement: str) -> str:
        if replacement in self._said:
            return ""
        self._said.add(replacement)
        start = len(sentence) - len(sentence.lstrip())
        return sentence[:start] + replacement + sentence[len(sentence.rstrip()) :]


@lru_cache(SOURCES)
def _read(source: str) -> tuple[frozenset[str], tuple[tuple[str, frozenset[str]], ...]]:
    """What a source supports, and its sentences that may be quoted, each with its words; articles come again and again."""
    quotes = [quote for quote in map(_unmark, split_sentences(source)) if _can_quote(quote)]
    return frozenset(facts(source, loose=True)), tuple((quote, frozenset(_content(quote))) for quote in quotes)


def _compile(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern, re.IGNORECASE)
    except re.error as error:
        raise ValueError(f"forbid: bad regex {pattern!r} ({error}); correct it") from error


def _supported(known: set[str]) -> set[str]:
    """Add what a fact says besides: a date its year and its day, a time its hour, -3 also 3."""
    more = set(known)
    for fact in known:
        if date := re.fullmatch(r"(\d{4}|-)-(\d\d)(?:-(\d\d))?", fact):
            year, month, day = date.groups()
            more |= {year, f"{year}-{month}"} | ({f"--{month}-{day}", str(int(day))} if day else set())
        elif time := re.fullmatch(r"(\d\d):(\d\d)", fact):
            more |= {str(int(time[1])), str((int(time[1]) - 1) % 12 + 1)}
        elif fact == "24/7":
            more |= {"24", "7"}
        elif re.fullmatch(r"1\d{10}", fact):
            more.add(fact[1:])  # a North American number without its 1
        more.add(fact.removeprefix("-") if not fact.startswith("--") else fact)
    return more


_SCALE = r"(?: ?(?:k|m|bn|hundred|thousand|million|billion)\b)?"
_AMOUNT = re.compile(rf"(?i)(?:[$€£¥]|\b(?:eur|usd|gbp|cny)\b) ?\d[\d.,]*{_SCALE}|"
                     rf"\d[\d.,]*{_SCALE} ?(?:[€£¥]|(?:euros?|dollars?|pounds?|eur|usd)\b)")


def _amounts(sentence: str) -> set[str]:
    """The figures of a sentence that are amounts of money."""
    return set().union(*(facts(amount.rstrip(".,")) for amount in _AMOUNT.findall(sentence)))


def _content(text: str) -> set[str]:
    """The words that carry the meaning; of Chinese, pairs of characters."""
    text = text.lower()
    han = re.findall(rf"(?=([{_CJK}]{{2}}))", text)
    words = re.findall(r"[a-zà-ɏ][a-zà-ɏ'’-]+", text)
    return {*han, *words} - _STOP_WORDS


def _unmark(sentence: str) -> str:
    return re.sub(r"^(?:[-*•>]\s+|#+\s*|\d{1,2}[.)]\s+)+", "", sentence.strip())


def _can_quote(quote: str) -> bool:
    """Say whether a source sentence can be shown to a person: no question, no JSON."""
    return bool(quote) and quote[-1] not in "?？" and quote[0] not in "{[" and '":' not in quote
