"""A turn as server-sent events, chunk by chunk as OpenAI's clients read them.

The order: a chunk with the role, chunks with text, one with `finish_reason` and what the answer was made from, perhaps one with
the usage, `[DONE]`. A turn that fails says so in an event `{"error": ...}` and ends without `[DONE]`.
"""

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from agent.errors import RetuneError
from agent.surfaces.http.completions import Ask, dump, ended, usage, why
from agent.surfaces.http.errors import Refused, refusal
from agent.surfaces.http.running import Running
from agent.types import Done

ALIVE_S = 15.0
"""A comment is sent where nothing else was for so long, or what stands between would close the connection."""
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
log = logging.getLogger("retune.http")


class EventStream(StreamingResponse):
    """An answer of events; whichever way it ends, nobody listens to its turn any more."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncIterator[bytes], running: Running, headers: dict[str, str]) -> None:
        super().__init__(events, headers=headers | HEADERS)
        self._running = running

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Until the turn ends or the caller goes away."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._running.stop()


class Stops:
    """Lets text through up to the first of some texts, which may come in pieces."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops, self._held, self.over = list(stops), "", False

    def feed(self, text: str) -> str:
        """What can be told now."""
        if self.over:
            return ""
        self._held += text
        found = [place for stop in self._stops if (place := self._held.find(stop)) >= 0]
        if found:
            self.over, told, self._held = True, self._held[:min(found)], ""
            return told
        begun = (size for stop in self._stops for size in range(1, len(stop)) if self._held.endswith(stop[:size]))
        kept = max(begun, default=0)
        cut = len(self._held) - kept
        told, self._held = self._held[:cut], self._held[cut:]
        return told

    def close(self) -> str:
        """What was held back; nothing may be fed after this."""
        told, self._held = ("" if self.over else self._held), ""
        return told


def chunk(head: dict[str, Any], delta: dict[str, str], reason: str | None = None, **more: Any) -> dict[str, Any]:
    """One `chat.completion.chunk`."""
    return head | {"choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}]} | more


async def stream(running: Running, asked: Ask, head: dict[str, Any], session: str,
                 finished: Callable[[Done, str], None], alive: float = ALIVE_S) -> AsyncIterator[bytes]:
    """The events of a turn whose head is known. `finished` hears the end and what was told, before the caller does."""
    with_usage = bool(asked.stream_options and asked.stream_options.include_usage)
    more = {"usage": None} if with_usage else {}
    stops, told = Stops(asked.stops), []
    try:
        yield event(chunk(head, {"role": "assistant", "content": ""}, **more))
        async for piece in running.deltas(alive):
            if not piece:
                yield b": alive\n\n"
            elif text := stops.feed(piece):
                told.append(text)
                yield event(chunk(head, {"content": text}, **more))
        if text := stops.close():
            told.append(text)
            yield event(chunk(head, {"content": text}, **more))
        done = await running.whole()
        finished(done, "".join(told))
        yield event(chunk(head, {}, ended(done, asked.most_tokens), retune=why(done.turn, session), **more))
        if with_usage:
            yield event(head | {"choices": [], "usage": usage(done.turn)})
        yield b"data: [DONE]\n\n"
    except Refused as error:
        yield event(error.table())
    except RetuneError as error:
        yield event(refusal(error).table())
    except Exception:
        log.exception("a stream broke")
        yield event(Refused(500, "Something went wrong that should not have; ask again.").table())


def event(table: dict[str, Any]) -> bytes:
    """One event."""
    return b"data: " + dump(table) + b"\n\n"
