"""Finds the session of a client that sends its whole transcript again, as clients of OpenAI do.

Knows hashes of what was said and to whom, the last so many; no text is kept. A transcript that continues no answer of ours is
somebody else's word for what was said: it begins a new session.
"""

import hashlib
import json
from collections import OrderedDict
from collections.abc import Sequence

from agent.surfaces.http.completions import Said

MOST = 10_000
PAIRS = 10


class Transcripts:
    """Transcript -> (stored session, id of its last turn). Each is found once: who sends it again wants another answer."""

    def __init__(self, most: int = MOST) -> None:
        self.most = most
        self._held: OrderedDict[bytes, tuple[str, str]] = OrderedDict()

    def keep(self, whose: Sequence[str], messages: Sequence[Said], reply: str, session: str, turn: str) -> None:
        """Remember where a conversation stands after `reply` was told; `whose`: key, user and model."""
        self._held[_sign(whose, [*map(_line, messages), ("assistant", _tidy(reply))])] = session, turn
        while len(self._held) > self.most:
            self._held.popitem(last=False)

    def find(self, whose: Sequence[str], before: Sequence[Said]) -> tuple[str, str] | None:
        """Where the conversation stood after `before`, the messages before the new one."""
        return self._held.pop(_sign(whose, [_line(each) for each in before]), None)

    def __len__(self) -> int:
        return len(self._held)


def pairs(before: Sequence[Said], longest: int) -> list[tuple[str, str]]:
    """The last questions and replies of a transcript, oldest first, each cut to `longest` characters."""
    found: list[tuple[str, str]] = []
    question = ""
    for each in before:
        if each.role == "user":
            question = each.text[:longest]
        elif each.role == "assistant" and question:
            found.append((question, each.text[:longest]))
            question = ""
    return found[-PAIRS:]


def _line(said: Said) -> tuple[str, str]:
    return said.role, _tidy(said.text)


def _tidy(text: str) -> str:
    """Clients join and strip pieces in ways of their own."""
    return " ".join(text.split())


def _sign(whose: Sequence[str], lines: Sequence[tuple[str, str]]) -> bytes:
    return hashlib.sha256(json.dumps([list(whose), lines]).encode()).digest()
