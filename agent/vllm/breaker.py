"""When to leave a failing server alone, and when to try it again. Knows counts and times only."""

import threading
import time
from collections.abc import Callable

FAILURES = 5  # in a row
REST_S = 5.0


class Breaker:
    """Opens after so many failures in a row; after a rest one try goes through, which closes it or begins the rest anew.

    Any thread may tell and ask.
    """

    def __init__(self, failures: int = FAILURES, rest_s: float = REST_S, now: Callable[[], float] = time.monotonic) -> None:
        self.failures, self.rest_s, self.now = failures, rest_s, now
        self._row = 0
        self._until = 0.0
        self._lock = threading.Lock()

    def allows(self) -> bool:
        """Whether a try may go through now; after a rest the first who asks may, and the others wait for how he fares."""
        with self._lock:
            if self._row < self.failures:
                return True
            if self.now() < self._until:
                return False
            self._until = self.now() + self.rest_s  # he has this long
            return True

    @property
    def open(self) -> bool:
        """Whether it rests."""
        with self._lock:
            return self._row >= self.failures

    def failed(self) -> None:
        """One more failure."""
        with self._lock:
            self._row += 1
            if self._row >= self.failures:
                self._until = self.now() + self.rest_s

    def well(self) -> None:
        """It answered."""
        with self._lock:
            self._row = 0
