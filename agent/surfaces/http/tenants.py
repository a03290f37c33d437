"""Who calls, what they may do, and which rows are theirs.

A tenant's session is stored under `tenant/ID`. The slash is ours alone: no id of a client holds one, so nothing that a client
says can name another tenant's row, and what is not theirs is as unknown to them as what is not there.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Header, Request, Security
from fastapi.security import HTTPBearer

from agent.keys import SCOPES, Key
from agent.store import Store
from agent.surfaces.http.errors import Refused

SESSION_ID = "[A-Za-z0-9_-][A-Za-z0-9._-]{0,95}"
"""As a name, and room for the domain that `retune` puts behind it."""
ANSWER = "chatcmpl-"
"""What the id of an answer begins with; the rest is the id of its turn."""
bearer = HTTPBearer(auto_error=False, scheme_name="key", description="A key that `retune keys add` made: `rtk_...`.")


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls: the bearer of a key, or without keys whoever sits at this machine (tenant ""), who sees everything."""

    name: str
    tenant: str = ""
    scopes: tuple[str, ...] = SCOPES
    key: Key | None = None

    @property
    def prefix(self) -> str:
        """What the ids of all their sessions begin with; "" for all there are."""
        return f"{self.tenant}/" if self.tenant else ""

    def stored(self, session: str) -> str:
        """The id in the store of the session that they call so; Refused (404) for what can be no id of theirs."""
        if self.tenant and not re.fullmatch(SESSION_ID, session):
            raise unknown_session()
        return self.prefix + session

    def shown(self, stored: str) -> str:
        """A stored id as they call it."""
        return stored.removeprefix(self.prefix)

    def owns(self, stored: str) -> bool:
        """Whether a stored session is theirs."""
        return stored.startswith(self.prefix)

    def author(self, user: str | None = None) -> str:
        """The name that is kept with what is said: the key's, and the person's where the app tells it."""
        return f"{self.name}/{user}" if user else self.name

    def session(self, store: Store, session: str) -> dict[str, Any]:
        """Their session's row, as `Store.sessions` gives it; Refused (404)."""
        found = store.sessions(id=self.stored(session))
        if not found:
            raise unknown_session()
        return found[0]

    def turn(self, store: Store, answer: str) -> dict[str, Any]:
        """The row of the turn behind an answer's id; Refused (404) if there is none, or it is another tenant's."""
        row = store.turn(answer.removeprefix(ANSWER))
        if row is None or not self.owns(row["session"]):
            raise Refused(404, "There is no answer with this id; take the id from an answer or a session.", "answer_id")
        return row


def unknown_session() -> Refused:
    """404: not there, or not theirs."""
    return Refused(404, "There is no session with this id; GET /v1/sessions lists them.", "session")


def may(scope: str) -> Callable[..., Principal]:
    """A dependency that gives the principal if it has the scope; the gate has found out who it is."""

    def principal(request: Request, _: Annotated[Any, Depends(bearer)]) -> Principal:
        who: Principal | None = request.scope.get("state", {}).get("principal")
        if who is None:  # the gate lets nobody through who is nobody; if a route ever escapes it, it stays shut
            raise Refused(401, "This needs a key; send it as `Authorization: Bearer rtk_...`.")
        if scope not in who.scopes:
            raise Refused(403, f"The key {who.name!r} lacks the scope {scope!r}; use one that has it.", code="missing_scope")
        return who

    return principal


Talker = Annotated[Principal, Security(may("chat"))]
Teacher = Annotated[Principal, Security(may("feedback"))]
Reviewer = Annotated[Principal, Security(may("review"))]
Admin = Annotated[Principal, Security(may("admin"))]
SessionHeader = Annotated[str | None, Header(alias="X-Session-Id", pattern=f"^{SESSION_ID}$",
                                             description="The conversation to go on with, or to begin.")]
