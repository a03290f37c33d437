"""LangChain's messages as a question with what went before, and an agent's events as LangChain's chunks and custom events.

Knows both kinds; runs no agent.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGenerationChunk

from agent.errors import DataError
from agent.surfaces.chat import events_to_table
from agent.types import Delta, Done, Event, Evidence, Routed, ToolCalled


@dataclass(frozen=True, slots=True)
class Asked:
    """What the messages ask."""

    text: str
    history: tuple[tuple[str, str], ...]
    """(question, reply), oldest first."""


def asked(messages: Sequence[BaseMessage]) -> Asked:
    """The last message, which has to be a person's and text; messages of one side in a row are one.

    System messages are left out, since a domain has a persona of its own, and so are messages of tools. DataError for what
    cannot be read.
    """
    said = [(kind, message) for message in messages if (kind := _kind(message)) in ("human", "ai")]
    if not said or said[-1][0] != "human":
        raise DataError("The last message has to be a person's; add a HumanMessage with the question.")
    if any(block["type"] != "text" for block in said[-1][1].content_blocks):
        raise DataError("An agent reads text alone; leave out pictures, sound and files, or say what is in them.")
    lines: list[tuple[str, str]] = []
    for kind, message in said:
        if lines and lines[-1][0] == kind:
            lines[-1] = kind, f"{lines[-1][1]}\n{message.text}".strip()
        elif message.text or message is said[-1][1]:
            lines.append((kind, str(message.text)))
    before = lines[:-1]
    pairs = [(question, reply) for (who, question), (_, reply) in zip(before, before[1:]) if who == "human"]
    return Asked(lines[-1][1], tuple(pairs))


def _kind(message: BaseMessage) -> str:
    roles = {"user": "human", "assistant": "ai", "AIMessageChunk": "ai", "HumanMessageChunk": "human"}
    kind = getattr(message, "role", message.type)  # of a ChatMessage
    return roles.get(kind, kind)


def custom(event: Event) -> tuple[str, dict[str, Any]] | None:
    """An event as (name, data) of LangChain's custom events: `intent`, `evidence` or `tool`; None for what is text.

    Texts are as they are logged: marks stand for private values. What is in them: `AgentRunnable`.
    """
    if isinstance(event, Routed):
        turn, route = event.turn, event.turn.route
        assert route, "Routed comes with a route"
        return "intent", {"intent": turn.intent, "confidence": route.confidence, "oos": route.oos,
                          "ranking": [list(each) for each in route.ranking], "state": turn.state, "slots": turn.slots,
                          "domain": turn.domain, "bundle": turn.bundle, "turn_id": turn.id, "session_id": turn.session}
    if isinstance(event, Evidence):
        return "evidence", {"passages": [{"id": each.id, "title": each.title, "heading": each.heading, "source": each.source,
                                          "text": each.text} for each in event.passages]}
    if isinstance(event, ToolCalled):
        return "tool", {"tool": event.tool, "arguments": event.arguments, "result": event.result}
    return None


class Writer:
    """One answer as chunks, ended at the first stop sequence; the turn itself runs on and is logged whole."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops, self._held, self._over = [stop for stop in stops if stop], "", False

    def chunks(self, event: Event) -> Iterator[ChatGenerationChunk]:
        """What an event adds; after Done comes the last one, empty, with usage and metadata."""
        if isinstance(event, Delta):
            if text := self._feed(event.text):
                yield _chunk(AIMessageChunk(content=text))
        elif isinstance(event, Done):
            if not self._over and self._held:
                yield _chunk(AIMessageChunk(content=self._held))
            yield _chunk(_last(event))

    def _feed(self, text: str) -> str:
        """What can be told now: not yet what could be the beginning of a stop sequence."""
        if self._over:
            return ""
        text, self._held = self._held + text, ""
        found = [at for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            self._over = True
            return text[:min(found)]
        longest = max((len(stop) for stop in self._stops), default=1) - 1
        keep = next((size for size in range(min(longest, len(text)), 0, -1)
                     if any(stop.startswith(text[-size:]) for stop in self._stops)), 0)
        self._held = text[len(text) - keep:]
        return text[:len(text) - keep]


def _last(done: Done) -> AIMessageChunk:
    table, turn = events_to_table(done), done.turn
    about = {name: table[name] for name in table if name not in ("answer", "tokens")}
    about |= {"domain": turn.domain, "model_name": turn.bundle, "model_provider": "retune", "finish_reason": "stop"}
    usage = {"input_tokens": turn.prompt_tokens, "output_tokens": turn.tokens, "total_tokens": turn.prompt_tokens + turn.tokens}
    return AIMessageChunk(content="", usage_metadata=usage, response_metadata=about, chunk_position="last")


def _chunk(message: AIMessageChunk) -> ChatGenerationChunk:
    return ChatGenerationChunk(message=message)
