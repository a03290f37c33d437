"""Several wishes in one message: it is cut where a new one may begin, and what the router is sure of is told apart.

Knows texts and a router; what becomes of the second wish is the dialogue's.
"""

import re
from collections.abc import Sequence
from typing import Protocol

from agent.types import Route

SURE = 0.8
"""A part is a wish of its own from this confidence on; a message is rather answered whole than torn."""
LEAST = 3  # words of a part

_ASKS = (r"(?:can|could|may|how|what|when|where|which|why|who|is|are|do|does|did|will|would|should|please|tell|show|send|give|"
         r"cancel|change|i\s+(?:want|need|would|also))\b")
_CUT = re.compile(rf"(?<=[.?!;])\s+|,?\s+(?:and\s+also|and\s+then|also|plus)\s+|,?\s+and\s+(?={_ASKS})", re.IGNORECASE)
_REQUEST = re.compile(rf"^(?:(?:and|also|then|so|but|ok|oh|hi|hello)\b[\s,]*)*{_ASKS}|\?", re.IGNORECASE)


class Routes(Protocol):
    """What this room needs of a router."""

    def route(self, texts: Sequence[str]) -> list[Route]:
        """A Route for each text."""


def parts(text: str) -> list[str]:
    """The pieces that may be wishes, in order; those of fewer than LEAST words stay with the piece before them."""
    pieces: list[str] = []
    for piece in filter(None, (piece.strip() for piece in _CUT.split(text))):
        if pieces and min(len(piece.split()), len(pieces[-1].split())) < LEAST:
            pieces[-1] = f"{pieces[-1]} {piece}"
        else:
            pieces.append(piece)
    return pieces


def several(router: Routes, text: str) -> list[tuple[str, Route]]:
    """The wishes of a message with their words, if it has more than one, else nothing.

    A piece that asks nothing is no wish, however sure the router is of it: "Money back please. The parcel never came" is one wish
    and its reason. Such a piece, an unsure one, or the same wish again, tells more about the wish before it.
    """
    pieces = parts(text)
    if len(pieces) < 2:
        return []
    found: list[tuple[str, Route]] = []
    before = ""
    for piece, route in zip(pieces, router.route(pieces)):
        sure = route.intent and route.confidence >= SURE and _REQUEST.search(piece)
        if sure and all(route.intent != other.intent for _, other in found):
            found.append((f"{before} {piece}".strip(), route))
            before = ""
        elif found:
            found[-1] = (f"{found[-1][0]} {piece}", found[-1][1])
        else:
            before = f"{before} {piece}".strip()
    return found if len(found) > 1 else []
