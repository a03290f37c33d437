"""/v1/handoffs: conversations that wait for a person; one takes them, answers, or lets them wait again."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, Field

from agent.errors import DataError
from agent.surfaces.http.completions import Strict
from agent.surfaces.http.errors import Refused
from agent.surfaces.http.feedback import User
from agent.surfaces.http.shared import Here, Shared, conflict, refusals
from agent.surfaces.http.tenants import ANSWER, Principal, Reviewer

router = APIRouter(tags=["hand-offs"])
AnswerId = Annotated[str, Path(min_length=1, max_length=200, description="Of the answer that handed over, `chatcmpl-...`.")]


class Pair(BaseModel):
    """A question and what the agent replied."""

    question: str
    reply: str


class Handoff(BaseModel):
    """A conversation as it was when it was handed over."""

    answer_id: str
    session: str
    domain: str
    reason: str
    status: Literal["waiting", "taken", "answered"]
    by: str = Field(description="Who took it; empty while it waits.")
    created: str
    conversation: list[Pair]


class Handoffs(BaseModel):
    """The oldest first."""

    object: Literal["list"]
    data: list[Handoff]


class Reviewing(Strict):
    """Who acts."""

    user: User = None


class Reply(Reviewing):
    """What a person answers."""

    text: str = Field(min_length=1, max_length=20000, pattern=r"\S")


@router.get("/v1/handoffs", responses=refusals(400, 401, 403, 429, 503))
def list_handoffs(at: Here, who: Reviewer, status: Literal["waiting", "taken", "answered"] = "waiting",
                  limit: Annotated[int, Query(ge=1, le=500)] = 50) -> Handoffs:
    """Conversations that wait, or that were taken or answered."""
    rows = at.store.handoffs(status, who.prefix, limit)
    return Handoffs.model_validate({"object": "list", "data": [shown(row, who) for row in rows]})


@router.post("/v1/handoffs/{answer_id}/take", responses=refusals(400, 401, 403, 404, 408, 409, 413, 429, 503))
def take_handoff(answer_id: AnswerId, who: Reviewer, at: Here, said: Reviewing) -> Handoff:
    """Take a conversation, so that nobody else answers it. Again is nothing."""
    turn = waiting(at, who, answer_id)
    try:
        at.store.take(turn, who.author(said.user))
    except DataError as error:
        raise conflict(error) from error
    return one(at, who, turn)


@router.post("/v1/handoffs/{answer_id}/release", responses=refusals(400, 401, 403, 404, 408, 409, 413, 429, 503))
def release_handoff(answer_id: AnswerId, who: Reviewer, at: Here, said: Reviewing) -> Handoff:
    """Let a conversation that one has taken wait again."""
    turn = waiting(at, who, answer_id)
    at.store.release(turn, who.author(said.user))
    now = one(at, who, turn)
    if now.status != "waiting":
        raise Refused(409, f"{now.by or 'Somebody'} has this conversation, and it is {now.status}; only they can release "
                      "what they took.")
    return now


@router.post("/v1/handoffs/{answer_id}/answer", responses=refusals(400, 401, 403, 404, 408, 409, 413, 429, 503))
def answer_handoff(answer_id: AnswerId, said: Reply, at: Here, who: Reviewer) -> Handoff:
    """Answer a conversation; the answer stands in the session and is a lesson. Whoever has not taken it takes it by this."""
    turn, author = waiting(at, who, answer_id), who.author(said.user)
    now = one(at, who, turn)
    agent = at.agent(now.domain)
    if now.status != "answered":
        try:
            at.store.take(turn, author)
        except DataError as error:
            raise conflict(error) from error
    elif now.by != author:
        raise Refused(409, f"{now.by or 'Somebody'} has answered this conversation; say more as feedback of the kind comment.")
    agent.feedback(turn, "reply", author, said.text)
    return one(at, who, turn)


def waiting(at: Shared, who: Principal, answer_id: str) -> str:
    """The turn's id, of a conversation that was handed over; Refused (404)."""
    turn = who.turn(at.store, answer_id)["id"]
    one(at, who, turn)
    return turn


def one(at: Shared, who: Principal, turn: str) -> Handoff:
    """The hand-off of a turn as it is now; Refused (404)."""
    row = at.store.handoff(turn)
    if row is None:
        raise Refused(404, "This answer handed nothing over; GET /v1/handoffs lists what waits.", "answer_id")
    return Handoff.model_validate(shown(row, who))


def shown(row: dict[str, Any], who: Principal) -> dict[str, Any]:
    """A row of the store as its tenant sees it."""
    return row | {"answer_id": ANSWER + row["turn"], "session": who.shown(row["session"])}
