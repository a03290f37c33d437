"""/v1/sessions: a tenant's conversations, listed, read whole, named, laid away."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, Field

from agent.surfaces.http.completions import Strict, ToolUse
from agent.surfaces.http.errors import Refused
from agent.surfaces.http.shared import Here, refusals
from agent.surfaces.http.tenants import ANSWER, Principal, Talker

router = APIRouter(tags=["sessions"])
SessionId = Annotated[str, Path(min_length=1, max_length=200, description="As an answer or the list names it.")]


class Session(BaseModel):
    """A conversation as it stands in a list."""

    id: str
    domain: str
    author: str
    title: str
    first: str = Field(description="Its first question.")
    turns: int
    archived: bool
    created: str
    updated: str


class Sessions(BaseModel):
    """The sessions used last, newest first."""

    object: Literal["list"]
    data: list[Session]


class Opinions(BaseModel):
    """What one author has said about an answer."""

    author: str
    kind: str
    value: str | None


class Exchange(BaseModel):
    """One question and what was answered. Private values stand as marks, such as [EMAIL_1]."""

    answer_id: str
    question: str
    reply: str
    state: str
    intent: str | None
    confidence: float | None
    bundle: str
    sources: list[str] = Field(description="Sections of articles, by id.")
    tools: list[ToolUse]
    flags: list[str]
    error: str | None
    created: str
    feedback: list[Opinions]


class Conversation(Session):
    """A conversation with all of its turns, oldest first."""

    exchanges: list[Exchange]


class Change(Strict):
    """What to change; what is left out stays."""

    title: str | None = Field(None, max_length=500, description="A name; private values in it become marks.")
    archived: bool | None = Field(None, description="Laid away, or fetched back.")


@router.get("/v1/sessions", responses=refusals(400, 401, 403, 429, 503))
def list_sessions(at: Here, who: Talker, domain: Annotated[str | None, Query(max_length=100)] = None,
                  limit: Annotated[int, Query(ge=1, le=500)] = 50, archived: bool = False) -> Sessions:
    """The conversations used last; with `archived` those laid away too."""
    rows = at.store.sessions(domain, limit, archived, prefix=who.prefix)
    return Sessions.model_validate({"object": "list", "data": [shown(row, who) for row in rows]})


@router.get("/v1/sessions/{session:path}", responses=refusals(400, 401, 403, 404, 429, 503))
def read_session(session: SessionId, at: Here, who: Talker) -> Conversation:
    """One conversation, whole."""
    row = who.session(at.store, session)
    turns = [exchange(turn) for turn in at.store.conversation(row["id"])]
    return Conversation.model_validate(shown(row, who) | {"exchanges": turns})


@router.patch("/v1/sessions/{session:path}", responses=refusals(400, 401, 403, 404, 408, 413, 429, 503))
def change_session(session: SessionId, change: Change, at: Here, who: Talker) -> Session:
    """Name a conversation, lay it away or fetch it back."""
    row = who.session(at.store, session)
    if change.title is not None:
        at.store.rename(row["id"], change.title)
    if change.archived is not None:
        at.store.archive(row["id"], change.archived)
    found = at.store.sessions(id=row["id"])
    if not found:
        raise Refused(404, "This session was deleted meanwhile; GET /v1/sessions lists what there is.", "session")
    return Session.model_validate(shown(found[0], who))


def shown(row: dict[str, Any], who: Principal) -> dict[str, Any]:
    """A row of the store as its tenant sees it."""
    return {name: row[name] for name in Session.model_fields} | {"id": who.shown(row["id"])}


def exchange(turn: dict[str, Any]) -> dict[str, Any]:
    """A turn's row as an exchange."""
    tools = [{"tool": turn["tool"], "arguments": turn["tool_arguments"], "result": turn["tool_result"]}]
    told = {name: turn[name] for name in Exchange.model_fields if name in turn}
    return told | {"answer_id": ANSWER + turn["id"], "sources": turn["passages"], "tools": tools if turn["tool_result"] else []}
