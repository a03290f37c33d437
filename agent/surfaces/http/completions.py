"""The shapes of OpenAI's chat completions, as far as Retune speaks them. Data only.

What a domain decides itself (sampling, its persona) is taken and has no effect; what would change the answer's form is refused.
"""

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from agent.surfaces.http.tenants import SESSION_ID
from agent.types import Done, Turn


def _whole(value: Any) -> Any:
    """JSON has no whole numbers of its own: 5.0 is one too."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


WHOLE = BeforeValidator(_whole)
"""Comes after the limits of a number, or the schema does not tell them."""
UNUSED = "Taken for the sake of clients that send it; the domain decides."


class Strict(BaseModel):
    """A body, or a part of one: nothing unknown, and nothing read as what it is not."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Text(Strict):
    """A part of a message."""

    type: Literal["text"]
    text: str


class Said(Strict):
    """One message of a transcript; the rest of what OpenAI's own answers hold may be sent back with it."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | Annotated[list[Text], Field(min_length=1)]
    name: str | None = None
    refusal: None = None
    annotations: Annotated[list[Any], Field(max_length=0)] | None = None
    audio: None = None
    function_call: None = None
    tool_calls: Annotated[list[Any], Field(max_length=0)] | None = None

    @property
    def text(self) -> str:
        """The words, whatever they were sent in."""
        return self.content if isinstance(self.content, str) else "\n".join(part.text for part in self.content)


class StreamOptions(Strict):
    """What a stream brings besides the answer."""

    include_usage: bool | None = Field(None, description="A last chunk with the tokens that were read and written.")
    include_obfuscation: bool | None = Field(None, description=UNUSED)


class Metadata(BaseModel):
    """Notes of the app; `session_id` names the conversation."""

    model_config = ConfigDict(extra="allow", strict=True)
    __pydantic_extra__: dict[str, str]
    session_id: Annotated[str, Field(pattern=f"^{SESSION_ID}$")] | None = None


class Plain(Strict):
    """The one form of an answer."""

    type: Literal["text"]


class Ask(Strict):
    """A chat completion to make. With a session the last message alone is read: the rest of the talk is in the store."""

    model: str = Field(min_length=1, max_length=200, description=(
        "A domain, a bundle such as `finance@0003`, or `retune`: the domain that each message is about."))
    messages: list[Said] = Field(min_length=1, max_length=2000, description=(
        "The last one must be the user's. System messages are not read: the domain has its own persona."))
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    stop: Annotated[str, Field(min_length=1)] | Annotated[
        list[Annotated[str, Field(min_length=1)]], Field(max_length=4)] | None = Field(
        None, description="The answer is told up to the first of these texts; it is kept whole.")
    max_tokens: Annotated[int, Field(ge=1), WHOLE] | None = Field(None, description="As max_completion_tokens.")
    max_completion_tokens: Annotated[int, Field(ge=1), WHOLE] | None = Field(
        None, description="The most that the model writes. What a rule or a tool says is told whole.")
    user: Annotated[str, Field(max_length=200)] | None = Field(None, description="Who writes, as the app knows them.")
    metadata: Metadata | None = None
    n: Annotated[int, Field(ge=1, le=1), WHOLE] | None = None
    tools: Annotated[list[Any], Field(max_length=0)] | None = None
    tool_choice: Literal["none", "auto"] | None = None
    parallel_tool_calls: bool | None = None
    logprobs: Literal[False] | None = None
    logit_bias: Annotated[dict[str, Any], Field(max_length=0)] | None = None
    modalities: list[Literal["text"]] | None = None
    response_format: Plain | None = None
    store: Literal[False] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = Field(None, description=UNUSED)
    top_p: Annotated[float, Field(ge=0, le=1)] | None = Field(None, description=UNUSED)
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = Field(None, description=UNUSED)
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = Field(None, description=UNUSED)
    seed: Annotated[int, WHOLE] | None = Field(None, description=UNUSED)
    reasoning_effort: str | None = Field(None, description=UNUSED)
    verbosity: str | None = Field(None, description=UNUSED)
    service_tier: str | None = Field(None, description=UNUSED)
    safety_identifier: str | None = Field(None, description=UNUSED)
    prompt_cache_key: str | None = Field(None, description=UNUSED)

    @property
    def most_tokens(self) -> int | None:
        """The cap on what the model writes, if there is one."""
        return self.max_completion_tokens or self.max_tokens

    @property
    def stops(self) -> list[str]:
        """Texts that end the answer."""
        return [self.stop] if isinstance(self.stop, str) else self.stop or []


class Source(BaseModel):
    """A section of an article that the answer was made from."""

    id: str
    title: str
    heading: str
    source: str


class ToolUse(BaseModel):
    """A tool that was called."""

    tool: str
    arguments: dict[str, Any]
    result: str


class Why(BaseModel):
    """What the answer was made from, and by what."""

    session: str
    domain: str
    bundle: str
    intent: str | None
    confidence: float | None
    state: str = Field(description="answered, done, asking, confirming, cancelled, handoff, escalated, refused, failed or "
                                   "clarify.")
    sources: list[Source]
    tools: list[ToolUse]
    flags: list[str]
    timings_ms: dict[str, float]


class Usage(BaseModel):
    """Tokens that the model read and wrote; none where a rule or a tool answered."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Answer(BaseModel):
    """What the assistant said."""

    role: Literal["assistant"]
    content: str
    refusal: None


class Choice(BaseModel):
    """The one answer."""

    index: Literal[0]
    message: Answer
    logprobs: None
    finish_reason: Literal["stop", "length"]


class Completion(BaseModel):
    """A whole answer. Its id is what feedback is given by."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    system_fingerprint: str = Field(description="The bundle that answered.")
    choices: list[Choice]
    usage: Usage
    retune: Why


def why(turn: Turn, session: str) -> dict[str, Any]:
    """`Why` of a turn; `session`: the id as the caller knows it."""
    tools = [{"tool": turn.tool, "arguments": turn.tool_arguments, "result": turn.tool_result}] if turn.tool_result else []
    sources = [{"id": each.id, "title": each.title, "heading": each.heading, "source": each.source} for each in turn.passages]
    return {"session": session, "domain": turn.domain, "bundle": turn.bundle, "intent": turn.intent,
            "confidence": turn.route.confidence if turn.route else None, "state": turn.state, "sources": sources,
            "tools": tools, "flags": list(turn.flags), "timings_ms": turn.timings_ms}


def usage(turn: Turn) -> dict[str, int]:
    """`Usage` of a turn."""
    return {"prompt_tokens": turn.prompt_tokens, "completion_tokens": turn.tokens,
            "total_tokens": turn.prompt_tokens + turn.tokens}


def ended(done: Done, most_tokens: int | None) -> str:
    """Why the model stopped: `length` where it wrote all that it might."""
    return "length" if most_tokens and done.turn.tokens >= most_tokens else "stop"


def dump(value: Any) -> bytes:
    """JSON in UTF-8; slots may hold days and decimals."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str).encode("utf-8", "replace")
