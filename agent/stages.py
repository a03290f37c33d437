"""A turn's marks as the stages that it went through. Knows the names of the marks, not what happens in a stage."""

from collections.abc import Mapping
from itertools import pairwise

STAGES = ("redact", "route", "retrieve", "generate", "tool")
"""Marks that end a stage; the others (first_token, first_word, total) are moments within a stage or round all of them."""


def stages(timings_ms: Mapping[str, float]) -> list[tuple[str, float, float]]:
    """The stages that ran, in order, each as (name, begin, end) in seconds since the turn began.

    `timings_ms`: `Turn.timings_ms`, milliseconds since the turn began. `redact` includes reading the session from the store;
    what lies between the last stage and `total` (a fixed answer, the wording) belongs to none.
    """
    marks = sorted(((name, at) for name, at in timings_ms.items() if name in STAGES), key=lambda mark: mark[1])
    return [(name, begin / 1000, end / 1000) for (_, begin), (name, end) in pairwise([("", 0.0), *marks])]
