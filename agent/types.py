"""What travels: passages, routes, turns and the events of a turn. Data only."""

from dataclasses import dataclass, field
from typing import Any

Message = dict[str, str]
"""{"role": "system" | "user" | "assistant", "content": ...}"""


@dataclass(frozen=True, slots=True)
class Passage:
    """One section of a knowledge article, or a document of an app's retriever.

    `id`: `article#n`, or what the retriever calls it; `title` of the article and `heading` of the section (may be empty);
    `text`; `source`: where it is from, as a text for people, mostly a URL; `intents`: names of those it answers.
    """

    id: str
    """`article#n`."""
    title: str
    heading: str
    text: str
    source: str
    intents: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Route:
    """What the router thinks of a message.

    `intent`: a name of the domain's, None where the message is out of scope; `confidence`: calibrated probability, 0 to 1, of
    that; `ranking`: (intent, probability) pairs, best first, at most five; `oos`: fitted probability, 0 to 1, that the message
    is out of scope; `likely`: intents one of which is right in 95 of 100 messages that are in scope.
    """

    intent: str | None
    """None: out of scope."""
    confidence: float
    """Calibrated probability of `intent`, or of being out of scope."""
    ranking: tuple[tuple[str, float], ...]
    """Intents with their probabilities, best first; at most five."""
    oos: float
    """Fitted probability, 0 to 1, that the message is out of scope."""
    likely: tuple[str, ...] = ()
    """A conformal set: in 95 of 100 messages in scope it holds the right intent; best first, at most five. Empty where the
    bundle's router was not fitted for it."""


@dataclass(slots=True)
class Made:
    """What a generator notes about one answer while it writes it; the one thing here that changes."""

    engine: str = ""
    """onnx, transformers, or `vllm` with the server's URL."""
    prompt_tokens: int = 0
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class Turn:
    """One message and what became of it. Frozen: each step of a turn returns a new one.

    `id`: 32 hex digits, for `Agent.rate` and the like; `session`, `domain` and `bundle` ("finance@0001") say where it belongs
    and what answered. `question`: as the person wrote it, in memory alone; `redacted`: as it is logged, with marks such as
    [EMAIL_1] for private values; `reply`: likewise. `route`: what the router thought, None where no router was asked; `intent`:
    what the message was taken for, None where it is out of scope. `state`: answered, done, asking, confirming, cancelled,
    handoff, escalated, refused, failed, clarify or error; `abstained`: whether the agent said that it cannot answer.
    `slots`: values that were read, by name. `passages`: what the answer was written from. `tool`: the tool of the intent;
    `tool_arguments` and `tool_result`: of a call, both empty without one. `flags`: rules that fired, such as
    "unsupported_number", "red_flag:chest_pain", "fallback", "error". `timings_ms`: milliseconds from the beginning of the turn
    to the end of each stage (redact, route, retrieve, first_token, first_word, generate, tool, total). `engine`: what wrote the
    answer, empty where none did; `prompt_tokens` and `tokens`: those it read and wrote. `error`: the class of what made the turn
    fail, or "cancelled"; empty where nothing did.
    """

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
    """Event: the message was routed; `turn` as far as it is known by now, with `route`, `intent`, `slots` and `state`."""

    turn: Turn


@dataclass(frozen=True, slots=True)
class Evidence:
    """Event: the articles, or an app's retriever, were asked, before the answer is written from `passages`, best first."""

    passages: tuple[Passage, ...]
    """Best first; none where nothing was found."""


@dataclass(frozen=True, slots=True)
class ToolCalled:
    """Event: a tool answered or explained why it could not.

    `tool`: its name; `arguments`: by name, with marks for private values; `result`: the sentences that it told.
    """

    tool: str
    arguments: dict[str, Any]
    result: str


@dataclass(frozen=True, slots=True)
class Delta:
    """Event: a further piece of the reply, safe to show; `text` is joined to what came before without anything between."""

    text: str


@dataclass(frozen=True, slots=True)
class Done:
    """Event: the turn is on disk; `turn` is what became of it, `reply` the whole answer as the person sees it."""

    turn: Turn
    reply: str


Event = Routed | Evidence | ToolCalled | Delta | Done
