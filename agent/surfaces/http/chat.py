"""POST /v1/chat/completions and GET /v1/models: OpenAI's wire, answered by turns."""

import asyncio
import uuid
from collections.abc import Awaitable, Sequence
from typing import Literal, TypeVar

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from agent.agent import Agent
from agent.front import Front
from agent.surfaces.http import sse
from agent.surfaces.http.catalogue import now
from agent.surfaces.http.completions import Ask, Completion, dump, ended, usage, why
from agent.surfaces.http.errors import Refused
from agent.surfaces.http.running import Running
from agent.surfaces.http.shared import Here, Shared, refusals
from agent.surfaces.http.tenants import ANSWER, Principal, SessionHeader, Talker
from agent.surfaces.http.transcripts import pairs
from agent.turn import tidy
from agent.types import Done

router = APIRouter(tags=["chat"])
GONE = 499
"""For nobody: the caller has gone."""
T = TypeVar("T")
LINKS = {
    "rate": {"operationId": "give_feedback", "requestBody": {"answer_id": "$response.body#/id"}},
    "take_back": {"operationId": "take_feedback_back", "parameters": {"query.answer_id": "$response.body#/id"}},
    "read": {"operationId": "read_session", "parameters": {"path.session": "$response.body#/retune/session"}},
    "change": {"operationId": "change_session", "parameters": {"path.session": "$response.body#/retune/session"}},
    "go_on": {"operationId": "chat_completions", "parameters": {"header.X-Session-Id": "$response.body#/retune/session"}},
}
"""What an answer leads to."""
EVENTS = {"description": "With `stream`: chat.completion.chunk events, the last of which holds `retune`, then `data: [DONE]`."}
"""Without a type: some readers of the file take it for the body's, a text, and some for each event's."""
SESSION_OUT = {"X-Session-Id": {"description": "The conversation, to go on with.", "schema": {"type": "string"}}}


class Model(BaseModel):
    """Something that `model` may name."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    bundle: str | None


class Models(BaseModel):
    """All of them."""

    object: Literal["list"]
    data: list[Model]


@router.get("/v1/models", responses=refusals(401, 403, 429))
def list_models(at: Here, who: Talker) -> Models:
    """Domains, `retune` over all of them, and bundles."""
    return Models.model_validate({"object": "list", "data": at.catalogue.table()})


@router.post("/v1/chat/completions", response_model=Completion, responses={
    200: {"headers": SESSION_OUT, "links": LINKS, "content": {"text/event-stream": {"schema": EVENTS}}},
    **refusals(400, 401, 403, 404, 408, 409, 413, 429, 502, 503, 504)})
async def chat_completions(asked: Ask, request: Request, at: Here, who: Talker,
                           session_id: SessionHeader = None) -> Response:
    """One turn of a conversation, whole or as a stream.

    The conversation is named by `X-Session-Id` or `metadata.session_id`. Without either, a transcript that ends with an answer
    of ours goes on where that answer was given; any other begins a new conversation, in which it counts as said before.
    """
    text = question(asked, at.settings.max_message)
    agent = await run_in_threadpool(at.catalogue.find, asked.model)
    author, whose = who.author(asked.user), (who.tenant, who.name, asked.user or "", asked.model)
    named = session_id or (asked.metadata.session_id if asked.metadata else None)
    session, history = await run_in_threadpool(find_session, asked, session_id, named, at, who, agent, whose)
    events = agent.stream(text, session, author, history, max_tokens=asked.most_tokens)
    running = Running(events, at.turns, request.scope["state"].get("place"))
    turn = await listening(request, running, running.head())
    if turn is None:
        return Response(status_code=GONE)
    shown, id = who.shown(turn.session), ANSWER + turn.id
    head = {"id": id, "created": now(), "model": asked.model, "system_fingerprint": turn.bundle}

    def finished(done: Done, told: str) -> None:
        if not named:  # the transcript of a session that has a name need not be all that was said in it
            at.transcripts.keep(whose, asked.messages, told, done.turn.session, done.turn.id)

    headers = {"X-Session-Id": shown}
    if asked.stream:
        body = sse.stream(running, asked, head | {"object": "chat.completion.chunk"}, shown, finished)
        return sse.EventStream(body, running, headers)
    done = await listening(request, running, running.whole())
    if done is None:
        return Response(status_code=GONE)
    stops = sse.Stops(asked.stops)
    told = stops.feed(done.reply) + stops.close()
    finished(done, told)
    choice = {"index": 0, "message": {"role": "assistant", "content": told, "refusal": None}, "logprobs": None,
              "finish_reason": ended(done, asked.most_tokens)}
    table = head | {"object": "chat.completion", "choices": [choice], "usage": usage(done.turn),
                    "retune": why(done.turn, shown)}
    return Response(dump(table), media_type="application/json", headers=headers)


def question(asked: Ask, longest: int) -> str:
    """The message to answer; Refused (400) if there is none, or if it is too long."""
    last = asked.messages[-1]
    if last.role != "user":
        raise Refused(400, "The last message must be the user's, as it is the one that is answered.", "messages")
    if not tidy(last.text):
        raise Refused(400, "The last message is empty; write what you would like to know.", "messages")
    if len(last.text) > longest:
        raise Refused(400, f"The last message has {len(last.text):,} characters and at most {longest:,} are read; send the "
                      "part that matters.", "messages", "string_above_max_length")
    return last.text


def find_session(asked: Ask, header: str | None, named: str | None, at: Shared, who: Principal,
                 agent: Agent | Front, whose: Sequence[str]) -> tuple[str, list[tuple[str, str]]]:
    """(stored session, what a new one takes as said before); Refused for a session that this model cannot go on with."""
    if header and asked.metadata and asked.metadata.session_id not in (None, header):
        raise Refused(400, "X-Session-Id and metadata.session_id name two sessions; send one of them.", "metadata.session_id")
    if named:
        session = who.stored(named)
        domains = {agent.domain.name} if isinstance(agent, Agent) else set(agent.agents)
        if (found := at.store.sessions(id=session)) and found[0]["domain"] not in domains:
            raise Refused(409, f"The session {named!r} is with {found[0]['domain']!r}; name that as the model, or begin "
                          "another session.", "model", "session_of_another_domain")
        return session, []
    before = asked.messages[:-1]
    said = pairs(before, at.settings.max_message)
    if said and (held := at.transcripts.find(whose, before)):
        session, turn = held
        last = at.store.last_turn(session)
        if last and last["id"] == turn:  # else the conversation has gone on somewhere else
            return session, []
    return who.prefix + uuid.uuid4().hex, said


async def listening(request: Request, running: Running, wanted: Awaitable[T]) -> T | None:
    """What is wanted of a turn; None when the caller goes away first, which stops it. Raises what the turn raised."""
    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    tasks = asyncio.ensure_future(wanted), asyncio.create_task(gone())
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if tasks[0].done():
            return tasks[0].result()
        running.stop()
        return None
    except asyncio.CancelledError:
        running.stop()
        raise
    finally:
        for task in tasks:
            task.cancel()
