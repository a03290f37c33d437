"""A row: one thing to be learned, with where it comes from. Data only; who makes rows and who reads them is elsewhere."""

import hashlib
from dataclasses import dataclass

OOS = "oos"
SIGNALS = ("seed", "up", "down", "correction", "reply", "intent", "none_of_these")
"""What a row was learned from: a domain's own files, or one kind of feedback; `reply` is a person's after hand-off."""


@dataclass(frozen=True, slots=True)
class Row:
    """One thing to be learned. Everything in it is redacted."""

    part: str
    """router or generator."""
    signal: str
    """One of SIGNALS."""
    question: str
    intent: str | None = None
    """The router's label; `oos`: none of the domain's. None in a generator row."""
    answer: str | None = None
    """What the generator has to say; of `down` the reply that was disliked. None in a router row."""
    rejected: str | None = None
    """The model's own reply where a person wrote a better one."""
    history: tuple[str, ...] = ()
    """Person, agent, ...: as they stood in the prompt."""
    facts: tuple[str, ...] = ()
    """As they stood in the prompt; lines of agent.prompt.fact."""
    ranked: tuple[str, ...] = ()
    """Intents that the router thought of when it answered, best first, at most five; of a router row."""
    turn: str | None = None
    session: str | None = None
    author: str = ""
    """Of the feedback; empty for seed rows and for people without a name."""
    bundle: str | None = None
    """Which answered."""
    created: str = ""
    """Of the feedback, ISO in UTC."""
    weight: int = 1
    """How often it stands in an epoch."""

    @property
    def id(self) -> str:
        """Stays the same for as long as it teaches the same thing: a hash of part, signal, turn, author and words."""
        said = (self.part, self.signal, self.turn, self.author, self.question, self.intent, self.answer)
        return hashlib.sha256(repr(said).encode()).hexdigest()[:20]


@dataclass(frozen=True, slots=True)
class Waiting:
    """A row that a person has to look at before it teaches anything."""

    row: Row
    reasons: tuple[str, ...]
    """In words: new author, neighbours say otherwise, ..."""
    score: float
    """How much a look at it is worth; the highest is shown first."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """A row that is not trained on, and why."""

    row: Row
    reason: str
