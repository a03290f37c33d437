"""What travels: passages, routes, turns and the events of a turn. Data only."""

from dataclasses import dataclass, field
from typing import Any

Message = dict[str, str]
"""{"role": "system" | "user" | "assistant", "content": ...}"""


@dataclass(frozen=True, slots=True)
class Passage:
    """One section of a knowledge article."""

    id: str
    """`article#n`."""
    title: str
    heading: str
    text: str
    source: str
    intents: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Route:
    """What the router thinks of a message."""

    intent: str | None
    """None: out of scope."""
    confidence: float
    """Calibrated probability of `intent`, or of being out of scope."""
    ranking: tuple[tuple[str, float], ...]
    """Intents with their probabilities, best first; at most five."""
    oos: float
    """Fitted probability, 0 to 1, that the message is out of scope."""


@dataclass(slots=True)
class Made:
    """What a generator notes about one answer while it writes it; the one thing here that changes."""

    engine: str = ""
    """onnx, transformers, or `vllm` with the server's URL."""
    prompt_tokens: int = 0
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class Turn:
    """One message and what became of it. Each step returns a new one."""

    id: str
    session: str
    domain: str
    bundle: str
    question: str
    """As the person wrote it; stays in memory."""
    redacted: str
    """As it is logged, routed and answered."""
    route: Route | None = None
    state: str = ""
    """answered, done, asking, confirming, cancelled, handoff, escalated, refused, failed, clarify or error."""
    intent: str | None = None
    slots: dict[str, Any] = field(default_factory=dict)
    passages: tuple[Passage, ...] = ()
    tool: str = ""
    """The intent's tool, called or waiting for a slot or a yes."""
    tool_arguments: dict[str, Any] = field(default_factory=dict)
    tool_result: str = ""
    """Empty unless the tool was called."""
    reply: str = ""
    """Redacted, as logged."""
    flags: tuple[str, ...] = ()
    abstained: bool = False
    timings_ms: dict[str, float] = field(default_factory=dict)
    engine: str = ""
    """What wrote the answer; empty where none did."""
    prompt_tokens: int = 0
    tokens: int = 0
    error: str = ""
    """The class of what made it fail, or `cancelled`; empty where nothing did. Its sentence is logged beside the turn."""


@dataclass(frozen=True, slots=True)
class Routed:
    """Event: the message was routed."""

    turn: Turn


@dataclass(frozen=True, slots=True)
class ToolCalled:
    """Event: a tool answered or explained why it could not."""

    tool: str
    arguments: dict[str, Any]
    result: str


@dataclass(frozen=True, slots=True)
class Delta:
    """Event: a further piece of the reply, safe to show."""

    text: str


@dataclass(frozen=True, slots=True)
class Done:
    """Event: the turn is on disk; `reply` is the whole answer as the person sees it."""

    turn: Turn
    reply: str


Event = Routed | ToolCalled | Delta | Done
