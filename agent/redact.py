"""Private values out before disk, and back for the eyes of the person who wrote them.

This room knows marks and the values that they stand for; it knows no shapes (private), no model and no disk. The map
from mark to value lives in memory, for one session, and is never written.

A mark that a user types, such as "[EMAIL_1]", is text: a number seen in text before it was issued is never issued,
so the mark restores to itself. Once issued, a mark means its value wherever this session writes it (that is what
makes `redact` idempotent); it can show a user nothing but a value of their own session. After a restart, pass the
stored history through `reserve`, so that old marks are not given to new values.
"""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NoReturn

from agent.private import FINDERS, LETTER, MARK, Span, spans

_PARTIAL = re.compile(r"\[(?:[A-Z]{0,8}|[A-Z]{3,8}_[0-9]{0,6})$")
_MAX_PASSES = 10  # a replaced value can uncover its neighbour; two passes settle all but hostile text


class Redactor:
    """The private values of one session and their marks.

    Turns come one after the other, but what people say about them may be redacted in another thread meanwhile.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._mark_of: dict[tuple[str, str], str] = {}
        self._value_of: dict[str, str] = {}  # the value as it was first written
        self._typed: set[str] = set()  # marks that stood in a text before they were issued
        self._last: Counter[str] = Counter()

    def redact(self, text: str) -> str:
        """Return `text` with private values replaced by marks such as "[EMAIL_1]".

        The same value, however spaced, gets the same mark within the session; redacting twice changes nothing.
        """
        self.reserve(text)
        with self._lock:
            for _ in range(_MAX_PASSES):
                before = text
                for kind, trigger, find in FINDERS:
                    if re.search(trigger, text):
                        text = self._replace(text, kind, find(text))
                text = self._replace(text, "NAME", self._known_names(text))
                if text == before:
                    break
        return text

    def restore(self, text: str) -> str:
        """Return `text` with this session's marks replaced by their values, as first written; others stay."""
        self.reserve(text)
        return MARK.sub(lambda match: self._value_of.get(match.group(), match.group()), text)

    def lost(self, text: str) -> bool:
        """Whether a mark stands in `text` whose value this session does not know, as after a restart."""
        return any(mark not in self._value_of for mark in MARK.findall(text))

    def restore_stream(self) -> RestoreStream:
        """Return a feeder that restores a text that arrives in pieces."""
        return RestoreStream(self)

    def reserve(self, text: str) -> None:
        """Never give the marks that stand in `text` to a new value; for the stored history of a resumed session."""
        self._typed.update(mark for mark in MARK.findall(text) if mark not in self._value_of)

    @property
    def marks(self) -> dict[str, int]:
        """How many different values of each kind were replaced: {"EMAIL": 2}. Counts only, safe to log."""
        return dict(Counter(kind for kind, _ in self._mark_of))

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Redactor lives in memory only: it holds what must not reach a disk")

    def _replace(self, text: str, kind: str, spans: Iterable[Span]) -> str:
        parts, done = [], 0
        for start, end, key in sorted(spans):
            if start >= done:  # where two rules overlap, the first to start wins
                parts += [text[done:start], self._mark(kind, key, text[start:end])]
                done = end
        return "".join([*parts, text[done:]])

    def _mark(self, kind: str, key: str, value: str) -> str:
        mark = self._mark_of.get((kind, key))
        while mark is None:
            self._last[kind] += 1
            if (fresh := f"[{kind}_{self._last[kind]}]") not in self._typed:
                mark = self._mark_of[kind, key] = fresh
                self._value_of[mark] = value
        return mark

    def _known_names(self, text: str) -> Iterator[Span]:
        """Find names of two words or more again where no rule would: "Ann Lee" after "my name is Ann Lee"."""
        names = [self._value_of[mark] for (kind, key), mark in self._mark_of.items() if kind == "NAME" and " " in key]
        if names:
            known = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
            yield from spans(re.compile(rf"(?<![{LETTER}])(?P<v>{known})(?![{LETTER}])"), text, str.lower)


class RestoreStream:
    """Restore marks in a streamed text: what could be the beginning of a mark waits for its end."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._held = ""

    def feed(self, delta: str) -> str:
        """Take the next piece and return what can be shown now (may be "")."""
        text = self._held + delta
        partial = _PARTIAL.search(text, max(0, len(text) - 16))
        cut = partial.start() if partial else len(text)
        self._held = text[cut:]
        return self._redactor.restore(text[:cut])

    def close(self) -> str:
        """Return what was held back; nothing may be fed after this."""
        held, self._held = self._held, ""
        return self._redactor.restore(held)
