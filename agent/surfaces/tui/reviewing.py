"""The review behind its screen: what waits in a domain, what lies beside a row, decisions written and taken back.

Everything here blocks, for seconds where texts are embedded: call it in a thread. Knows no widget; what waits is worked out
by tuning.dataset and what was decided is kept by tuning.review, so the screen has the queue of `retune review`.
"""

import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from agent.errors import DataError, RetuneError

if TYPE_CHECKING:
    import numpy as np

    from agent.domain import Domain
    from agent.settings import Settings
    from agent.store import Store
    from tuning.proposals import Proposal
    from tuning.quarantine import Embed
    from tuning.rows import Waiting

BATCH = 64
"""Texts that are embedded between two looks at whether somebody still waits for them."""
FEWEST = 5
"""Turns that may be a new intent; of fewer the library that finds them is not even loaded."""
WORDS = {"up": "liked", "down": "disliked", "correction": "correction", "reply": "reply", "intent": "intent",
         "none_of_these": "none of these"}
"""Signals as a person reads them."""


@dataclass(frozen=True, slots=True)
class Gathered:
    """What waits in one domain, the most informative first."""

    domain: "Domain"
    rows: "tuple[Waiting, ...]"
    proposals: "tuple[Proposal, ...]"
    taught: int
    """Rows that wait for nobody and will be trained on."""
    dropped: tuple[tuple[str, int], ...]
    """Why other rows wait for nobody and teach nothing -> how many, the commonest first."""
    neighbours_asked: bool

    @property
    def signals(self) -> dict[str, int]:
        """Signal -> rows of it that wait."""
        return dict(Counter(each.row.signal for each in self.rows).most_common())


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What helps to judge a row."""

    turns: tuple[dict[str, Any], ...]
    """Turns of its conversation, oldest first, the last is its own; as `Store.conversation` gives them."""
    neighbours: tuple[tuple[float, str, str], ...]
    """(cosine, text, label or answer) of the nearest rows that are learned from, the nearest first."""


class Reviewing:
    """One reviewer. `embed` replaces the plain encoder of the settings."""

    def __init__(self, store: "Store", settings: "Settings", reviewer: str, embed: "Embed | None" = None) -> None:
        self.store, self.settings, self.reviewer = store, settings, reviewer
        self._given, self._known = embed, dict[str, Any]()
        self._lock, self._stopped = threading.Lock(), threading.Event()
        self._proposed: dict[str, tuple[Proposal, ...]] = {}
        self._learned: dict[str, tuple[Any, ...]] = {}
        self.done: list[tuple[str, str, Waiting | None]] = []
        """What was decided in this visit, the newest last: (decision, domain or author or intent, row)."""

    def stop(self) -> None:
        """Nobody waits any more: what is being gathered ends at its next step."""
        self._stopped.set()

    def gather(self, name: str, anew: bool = True) -> Gathered:
        """What waits in the domain now; proposals are worked out again only `anew`. DomainError, StoreError, ModelError."""
        from agent.domain import Domain
        from tuning.dataset import build
        from tuning.proposals import outside, propose

        with self._lock:
            domain, embed = Domain.load(name), self._embed()
            made = build(domain, self.store, encoder=embed)
            if embed and (anew or name not in self._proposed):
                alone = outside(self.store, domain)
                self._proposed[name] = tuple(propose(alone, embed, taken=list(domain.intents)) if len(alone) >= FEWEST else ())
            self._learned[domain.name] = (*made.router, *made.generator)
        dropped = Counter(each.reason.partition(":")[0] for each in made.dropped).most_common()
        return Gathered(domain, made.waiting, self._proposed.get(name, ()),
                        len(made.router) + len(made.generator) + len(made.down), tuple(dropped), made.neighbours_asked)

    def surroundings(self, domain: "Domain", waiting: "Waiting", most: int = 5) -> Surroundings:
        """The turn with the two before it, and the nearest rows of the domain's own and of what was taught."""
        row = waiting.row
        said = self.store.conversation(row.session) if row.session else []
        at = next((number for number, turn in enumerate(said) if turn["id"] == row.turn), len(said) - 1)
        with self._lock:
            return Surroundings(tuple(said[max(0, at - 2):at + 1]), self._nearest(domain, waiting, most))

    def decide(self, domain: "Domain", waiting: "Waiting", decision: str, intent: str | None = None,
               answer: str | None = None) -> None:
        """On disk when it returns. DataError for what does not fit the row, or what somebody else decided meanwhile."""
        from tuning.review import decide

        if found := self._decided_by_another(waiting.row.id):
            raise DataError(f"{found[0]} has decided it meanwhile ({found[1]}); that stays. Skip it, it is gone next time.")
        decide(self.store, domain, waiting, decision, self.reviewer, intent, answer)
        self.done.append((decision, domain.name, waiting))

    def trust(self, waiting: "Waiting") -> None:
        """What the row's author teaches needs no review. DataError for one without a name."""
        from tuning.quarantine import trust

        trust(self.store, waiting.row.author)
        self.done.append(("trust", waiting.row.author, waiting))

    def add(self, name: str, domain: "Domain", proposal: "Proposal", called: str, reply: str) -> str:
        """Write a proposed intent into the domain's files; a sentence that says where. DataError, DomainError."""
        from tuning.proposals import add_intent

        add_intent(domain, proposal, called, reply)
        self._proposed[name] = tuple(each for each in self._proposed.get(name, ()) if each != proposal)
        self.done.append(("add", called, None))
        return f"{called} is in {domain.folder / 'domain.toml'}; the next retrain teaches it to the router."

    def undo(self) -> "tuple[Waiting | None, str]":
        """(the row that waits again, a sentence): the last decision of this visit is taken back."""
        from tuning import quarantine
        from tuning.review import take_back

        if not self.done:
            raise DataError("Nothing was decided in this visit; `retune review` changes older decisions by the row's id.")
        kind, name, waiting = self.done[-1]
        if kind == "trust":
            quarantine.unjudge(self.store, name)
            said = f"{name} is not trusted any more."
        elif waiting is None:
            self.done.pop()
            raise DataError(f"The intent {name} stands in the domain's files; take it out of domain.toml and intents.jsonl.")
        else:
            back = take_back(self.store, waiting.row.id, self.reviewer)
            said = f"Taken back: {kind}." if back else "Somebody else has decided it meanwhile; that stays."
        self.done.pop()
        return waiting, said

    def _decided_by_another(self, row: str) -> tuple[str, str] | None:
        import sqlalchemy as sa

        from agent.schema import reviews

        theirs = (reviews.c.row == row) & (reviews.c.reviewer != self.reviewer)
        with self.store.reading() as at:
            found = at.execute(sa.select(reviews.c.reviewer, reviews.c.decision).where(theirs)).first()
        return (found[0] or "Somebody", found[1]) if found else None

    def _nearest(self, domain: "Domain", waiting: "Waiting", most: int) -> tuple[tuple[float, str, str], ...]:
        import numpy as np

        from tuning.groups import generator_rows, router_rows

        row, embed = waiting.row, self._embed()
        if embed is None:
            return ()
        learned = [each for each in self._learned.get(domain.name, ()) if each.part == row.part and each.id != row.id]
        beside = [(each.question, str(each.intent or each.answer)) for each in learned]
        if row.part == "router":
            beside += [(each.text, each.intent) for each in router_rows(domain)]
        else:
            beside += [(each.question, each.answer) for each in generator_rows(domain)]
        if not beside:
            return ()
        vectors = embed([row.question, *(text for text, _ in beside)])
        near = vectors[1:] @ vectors[0]
        best = np.argsort(-near, kind="stable")[:most]
        return tuple((float(near[i]), *beside[i]) for i in best)

    def _embed(self) -> "Embed | None":
        """Vectors of the plain encoder, no text twice; None while its files are not there: agents fetch them."""
        if self._given is None:
            from agent import models
            from agent.encoder import Encoder

            if (base := models.find(self.settings.encoder, self.settings)) is None:
                return None
            self._given = Encoder(base, None, max(1, self.settings.cores - 1)).embed
        return self._embedded

    def _embedded(self, texts: Sequence[str]) -> "np.ndarray":
        import numpy as np

        assert self._given is not None, "only given out where there is one"
        fresh = [text for text in dict.fromkeys(texts) if text not in self._known]
        for start in range(0, len(fresh), BATCH):
            if self._stopped.is_set():
                raise Stopped("The review was left.")
            some = fresh[start:start + BATCH]
            self._known.update(zip(some, self._given(some)))
        return np.stack([self._known[text] for text in texts])


class Stopped(RetuneError):
    """Somebody left while rows were gathered."""


def settled(waiting: "Waiting") -> "Waiting":
    """The same row where it waits no longer but is still looked at."""
    return replace(waiting, reasons=("waits no longer",))
