"""What the gate is given and what it answers. Data only."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

PARTS = ("router", "oos", "generator", "refusal", "safety", "general")


@dataclass(frozen=True, slots=True)
class Pair:
    """One evaluation row answered by the champion and by the challenger."""

    id: str
    """Unique within its part."""
    cluster: str
    """Rows of one cluster (an article, a conversation) are not independent of one another."""
    part: str
    """One of PARTS."""
    champion: float
    """1 right, 0 wrong; `general` may hold a score from 0 to 1."""
    challenger: float
    slices: Mapping[str, str]
    """{"intent": "refund", "length": "short", "language": "en", "source": "..."}; a row may lack any of them."""
    few_shot: float | None = None
    """The base model with examples in its prompt; generator rows only."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What the gate asks for; rates and margins are shares (0.05 is five points)."""

    alpha: float = 0.05
    """Level of every other one-sided test and bound."""
    harm_alpha: float = 0.1
    """Chance that a harmless challenger is refused for some slice, all of them together; a refusal costs only a training."""
    power: float = 0.8
    """Chance of showing what is there, for the number of further pairs."""
    margin: float = 0.05
    """A guard may be worse by less than this."""
    general_margin: float = 0.01
    """The same for `general`, the frozen set of common skills."""
    guard_power: float = 0.95
    """Chance that all harmless guards pass; a guard with fewer pairs than that takes is tested for harm alone."""
    floor: int = 30
    """Fewer pairs than this on a retrained part: no verdict on it."""
    smallest: int = 5
    """Pairs of the smallest slice that is looked at; fewer than five cannot show harm at the usual level."""
    targets: tuple[str, ...] = ("router", "oos", "generator", "refusal")
    """Parts that can be retrained."""
    guards: tuple[str, ...] = ("intent",)
    """Slices that are guards, beside each whole part; the other slices are tested for harm alone."""
    required: tuple[str, ...] = ("safety",)
    """Parts without which nothing is promoted."""
    few_shot: bool = True
    """Whether a retrained generator has to beat the few-shot prompt."""
    resamples: int = 10_000
    """Of the clustered bootstrap."""
    seed: int = 20_240_607


@dataclass(frozen=True, slots=True)
class Finding:
    """One test and what came of it."""

    kind: Literal["safety", "harm", "non-inferiority", "few-shot", "superiority"]
    slice: str
    """`router`, or `router intent=refund`."""
    pairs: int
    champion: float
    """Mean over the pairs; in a `few-shot` finding that of the few-shot prompt."""
    challenger: float
    delta: float
    lower: float
    """One-sided bound of delta at the rule's alpha, shared among the targets in a `superiority` finding."""
    upper: float
    """As `lower`; the two make a two-sided interval at twice that level."""
    p: float | None
    """Adjusted for the other slices (Holm); None where a bound decides."""
    passed: bool | None
    """None: the pairs cannot tell."""
    blocks: bool
    """Whether this keeps the challenger from promotion."""
    further_pairs: int | None
    """How many more would probably tell; None: not asked, or more of the same would not."""
    words: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the gate decided and what drove it."""

    decision: Literal["promote", "refuse", "abstain"]
    why: str
    """One sentence for a person."""
    slice: str | None
    """The slice that drove the decision."""
    further_pairs: int | None
    findings: tuple[Finding, ...]
    seed: int

    def table(self) -> dict[str, Any]:
        """The verdict as JSON can hold it."""
        return asdict(self)
