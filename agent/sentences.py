"""Where a sentence ends, in whole texts and in streamed ones.

This room knows punctuation, abbreviations and list numbers, in English and Chinese. It does not know what
a sentence says, nor whether it may be shown; it changes no character: the sentences, joined, are the text.
"""

from __future__ import annotations

import re

_CJK = "\u3400-\u9fff"
_END = re.compile(
    rf"[.!?]++[\"'”’)\]*_]*+(?=\s|$|[{_CJK}])|[。！？]++[”’」』）\"]*+|\n"
)
_NEVER_ENDS = re.compile(
    r"(?:^|[\s(\"'“])(?:(?i:mr|mrs|ms|mx|dr|prof|rev|st|vs|cf|approx|figs?|est|tel|ext|dept|incl|"
    r"e\.g|i\.e|eg|ie|u\.s|u\.k|u\.s\.a|d\.c|ph\.d)|(?:Mr|Mrs|Ms|Dr|Prof|[A-Z])\. ?[A-Z])\.$"
)
_ENDS_BEFORE_CAPITAL = re.compile(
    r"(?:^|[\s(\d])(?i:[ap]\.m|etc|inc|ltd|co|corp|jr|sr|al|plc|no|nos|art|sec)\.$|\.\.\.$"
)
# "1. Take", "Steps: 1. Take", and a sentence that would be nothing but "2." or the initial "J."
_ONLY_A_NUMBER = re.compile(r"(?:^|\n|[:;]\s)\s*(?:[-*•]\s*)?\(?(?:\d{1,3}|[A-Za-z])\.$")


def split_sentences(text: str) -> list[str]:
    """Split `text` into sentences with their trailing white space; joined, they are `text` again.

    '.', '!', '?', '。', '！', '？' and line ends finish a sentence; abbreviations, decimals, initials
    and list numbers do not.
    """
    feeder = SentenceFeeder()
    sentences = feeder.feed(text)
    rest = feeder.close()
    return [*sentences, rest] if rest else sentences


class SentenceFeeder:
    """Cut streamed text into sentences; what comes out, joined, is what went in.

    A sentence is known to be complete once the first character of the next one has come.
    """

    def __init__(self) -> None:
        self._text = ""
        self._scanned = 0  # no end of a sentence stands before this

    def feed(self, delta: str) -> list[str]:
        """Take the next piece of text and return the sentences that it completes, oldest first."""
        self._text += delta
        sentences, start = [], 0
        while (end := self._next_end(start)) is not None:
            sentences.append(self._text[start:end])
            start = self._scanned = end
        self._text, self._scanned = self._text[start:], self._scanned - start
        return sentences

    def close(self) -> str:
        """Return the rest, which nothing followed; "" when there is none."""
        rest, self._text, self._scanned = self._text, "", 0
        return rest

    def _next_end(self, start: int) -> int | None:
        while mark := _END.search(self._text, self._scanned):
            end = mark.end()
            while end < len(self._text) and self._text[end].isspace():
                end += 1
            if end == len(self._text):
                self._scanned = mark.start()
                return None
            if self._ends(start, mark, self._text[end]):
                return end
            self._scanned = mark.end()
        self._scanned = len(self._text)
        return None

    def _ends(self, start: int, mark: re.Match[str], following: str) -> bool:
        if mark.group() == "\n":
            return bool(self._text[start : mark.start()].strip())
        if mark.group()[-1] != ".":
            return True
        before = self._text[max(start, mark.start() - 24) : mark.end()]
        if _NEVER_ENDS.search(before) or _ONLY_A_NUMBER.search(before):
            return False
        if _ENDS_BEFORE_CAPITAL.search(before):
            return not (following.islower() or following.isdigit() or following in "(,;#")
        return True
