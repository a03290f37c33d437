"""The redactors of the sessions that this process holds, the last used ones. Knows no text and no disk.

A session that was let go of is as one after a restart: marks in its logged turns are given to no new value, but its private
values are gone. A reply that names one shows the mark, and a tool that needs one asks for it again.
"""

import threading
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice

from agent.redact import Redactor

MOST = 10_000
"""Sessions whose private values are kept in memory; of two typical values each they take some 10 MB."""


class Redactors:
    """One redactor for each session, at most `most` of them beside those in use. Any thread may ask."""

    def __init__(self, known: Mapping[str, Redactor] | None = None, most: int = MOST) -> None:
        self.most = most
        self._lock = threading.Lock()
        self._held: OrderedDict[str, Redactor] = OrderedDict(known or {})  # used last comes last
        self._users: Counter[str] = Counter()

    def of(self, session: str) -> Redactor:
        """The session's redactor, made where there is none."""
        with self._lock:
            found = self._held.setdefault(session, Redactor())
            self._held.move_to_end(session)
            self._let_go()
            return found

    @contextmanager
    def using(self, session: str) -> Iterator[Redactor]:
        """The session's redactor, which stays while the block runs."""
        with self._lock:
            self._users[session] += 1
        try:
            yield self.of(session)
        finally:
            with self._lock:
                self._users[session] -= 1
                if not self._users[session]:
                    del self._users[session]
                self._let_go()

    def clear(self) -> None:
        """Forget every value of sessions that are not in use."""
        with self._lock:
            for session in [session for session in self._held if session not in self._users]:
                del self._held[session]

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, session: object) -> bool:
        return session in self._held

    def _let_go(self) -> None:
        """Called with the lock. The oldest that nobody uses go first; those in use are few."""
        if len(self._held) > self.most:
            for session in list(islice(self._held, len(self._users) + 1)):
                if len(self._held) > self.most and session not in self._users:
                    del self._held[session]
