"""What the routes of one app share, and how they declare the ways in which they refuse."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import Depends, Request

from agent.agent import Agent
from agent.errors import DataError
from agent.settings import Settings
from agent.store import Store
from agent.surfaces.http.catalogue import Catalogue
from agent.surfaces.http.errors import Error, Refused
from agent.surfaces.http.limits import Turns
from agent.surfaces.http.transcripts import Transcripts

WHEN = {400: "Something in it cannot be read.", 401: "No key, or one that opens nothing.", 403: "The key lacks the scope.",
        404: "It is not there, or not yours.", 408: "The body came too slowly.", 409: "It was changed or taken meanwhile.",
        413: "The body is too large.", 429: "Too much at once; `Retry-After` says when to come again.",
        502: "The model failed.", 503: "It cannot be served just now.", 504: "The model took too long."}


@dataclass
class Shared:
    """One running app."""

    agents: Mapping[str, Agent]
    store: Store
    settings: Settings
    catalogue: Catalogue
    turns: Turns
    transcripts: Transcripts
    metrics: Any | None = None
    """Something with `render() -> (bytes, content type)`."""
    warm: bool = False
    """Every model is loaded and has run once."""
    stopping: bool = False
    looked: list[dict[str, Any]] = field(default_factory=list)
    """What the last look at readiness found, `looked_at` when."""
    looked_at: float = 0.0
    looking: threading.Lock = field(default_factory=threading.Lock)

    def agent(self, domain: str) -> Agent:
        """The agent of a domain; Refused (404)."""
        if domain not in self.agents:
            raise Refused(404, f"The domain {domain!r} is not served here; there are {', '.join(self.agents)}.", "domain")
        return self.agents[domain]


def _shared(request: Request) -> Shared:
    return request.app.state.shared


Here = Annotated[Shared, Depends(_shared)]


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Declared answers of these statuses, each in the shape of errors."""
    retry = {"headers": {"Retry-After": {"description": "Seconds.", "schema": {"type": "string"}}}}
    return {status: {"model": Error, "description": WHEN[status]} | (retry if status == 429 else {}) for status in statuses}


def conflict(error: DataError) -> Refused:
    """409 for what somebody else has settled or taken meanwhile."""
    return Refused(409, str(error))
