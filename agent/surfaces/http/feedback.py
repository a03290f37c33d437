"""POST and DELETE /v1/feedback: what people say about an answer, by its id. The rules are those of `agent.teaching`."""

from typing import Annotated, Literal, get_args

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from agent import teaching
from agent.surfaces.http.completions import Strict
from agent.surfaces.http.errors import Refused
from agent.surfaces.http.shared import Here, Shared, refusals
from agent.surfaces.http.tenants import ANSWER, Principal, Teacher

router = APIRouter(tags=["feedback"])
Kind = Literal["up", "down", "correction", "intent", "none_of_these", "comment", "reply"]
assert get_args(Kind) == teaching.KINDS, f"{teaching.KINDS} are the kinds"
AnswerId = Annotated[str, Field(min_length=1, max_length=200, description="The id of the answer, `chatcmpl-...`.")]
User = Annotated[str | None, Field(max_length=200, description="Who says so, to the app; kept after the key's name.")]


class Opinion(Strict):
    """Something to say about an answer."""

    answer_id: AnswerId
    kind: Kind
    value: str | None = Field(None, max_length=20000, description="The better answer, the intent, the comment or the reply; "
                                                                  "nothing with the other kinds.")
    user: User = None


class Feedback(BaseModel):
    """What one author has said."""

    author: str
    kind: str
    value: str | None
    created: str


class AllFeedback(BaseModel):
    """All that was said about an answer, the oldest first."""

    object: Literal["list"]
    answer_id: str
    data: list[Feedback]


@router.post("/v1/feedback", responses=refusals(400, 401, 403, 404, 408, 413, 429, 503))
def give_feedback(said: Opinion, at: Here, who: Teacher) -> AllFeedback:
    """Say something about an answer. Again is nothing; `up` and `down` replace each other, as do `intent` and `none_of_these`.

    A `reply` answers the conversation's hand-off and needs the scope `review`.
    """
    turn = who.turn(at.store, said.answer_id)
    check_scope(who, said.kind)
    agent = at.agent(turn["domain"])
    agent.feedback(turn["id"], said.kind, who.author(said.user), said.value)
    return all_of(at, turn["id"])


@router.delete("/v1/feedback", responses=refusals(400, 401, 403, 404, 429, 503))
def take_feedback_back(at: Here, who: Teacher, answer_id: Annotated[AnswerId, Query()], kind: Annotated[Kind, Query()],
                       user: Annotated[User, Query()] = None) -> AllFeedback:
    """Take back what the same author said by this kind."""
    turn = who.turn(at.store, answer_id)
    check_scope(who, kind)
    if not at.store.retract(turn["id"], who.author(user), kind):
        raise Refused(404, f"{who.author(user)} has said no {kind!r} about this answer: nothing to take back.", "kind")
    return all_of(at, turn["id"])


def check_scope(who: Principal, kind: str) -> None:
    """A reply ends a hand-off, which is a reviewer's business."""
    if kind == "reply" and "review" not in who.scopes:
        raise Refused(403, f"The key {who.name!r} lacks the scope 'review', which a reply needs; use one that has it.",
                      code="missing_scope")


def all_of(at: Shared, turn: str) -> AllFeedback:
    """What stands now."""
    rows = [{name: row[name] for name in Feedback.model_fields} for row in at.store.feedback_of(turn)]
    return AllFeedback.model_validate({"object": "list", "answer_id": ANSWER + turn, "data": rows})
