"""A person's decisions about rows: kept by the row's id, applied whenever rows are built. Shows nothing, asks nobody.

A decision belongs to the row as it was harvested: what an edit or a new label makes of it is worked out each time.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import sqlalchemy as sa

from agent import connections
from agent.domain import Domain
from agent.errors import DataError
from agent.redact import Redactor
from agent.schema import feedback, reviews, signals, turns
from agent.store import Store
from tuning.likeness import near_pairs
from tuning.rows import OOS, Dropped, Row, Waiting

DECISIONS = ("accept", "edit", "relabel", "reject")
DISPUTES = ("authors disagree", "neighbours say otherwise", "the same reply", "the domain's own rows")


@dataclass(frozen=True, slots=True)
class Decision:
    """What was decided about one row."""

    decision: str
    """One of DECISIONS."""
    intent: str | None
    answer: str | None


def decisions(store: Store, domain: Domain) -> dict[str, Decision]:
    """Id of a harvested row -> the decision about it."""
    with store.reading() as at:
        found = at.execute(sa.select(reviews).where(reviews.c.domain == domain.name)).all()
    return {each.row: Decision(each.decision, each.intent, each.answer) for each in found}


def apply(rows: Sequence[Row], decided: Mapping[str, Decision]) -> tuple[list[Row], set[str], list[Dropped]]:
    """(rows after review, ids of those that were reviewed, rejected ones)."""
    kept, reviewed, dropped = [], set(), []
    for row in rows:
        said = decided.get(row.id)
        if said and said.decision == "reject":
            dropped.append(Dropped(row, "rejected in review"))
            continue
        kept.append(_after(row, said) if said else row)
        if said:
            reviewed.add(kept[-1].id)
    return kept, reviewed, dropped


def _after(row: Row, said: Decision) -> Row:
    if said.decision == "relabel" and row.part == "router":
        return replace(row, intent=said.intent)
    if said.decision == "edit" and row.part == "generator" and said.answer:
        worse = row.answer if row.signal in ("up", "down") else row.rejected
        signal = "correction" if row.signal in ("up", "down") else row.signal
        return replace(row, signal=signal, answer=said.answer, rejected=worse if worse != said.answer else None)
    return row


def decide(store: Store, domain: Domain, waiting: Waiting | Row, decision: str, reviewer: str, intent: str | None = None,
           answer: str | None = None) -> None:
    """Write down what a person decided about a harvested row; the newest decision counts.

    DataError, with what can be done, for a decision that does not fit the row.
    """
    row = waiting.row if isinstance(waiting, Waiting) else waiting
    answer = Redactor().redact(answer).strip() if answer else None
    if problem := _misfit(row, domain, decision, intent, answer):
        raise DataError(problem)
    now = datetime.now(UTC).isoformat(timespec="microseconds")
    with store.writing() as at:
        connections.replace(at, reviews, {
            "row": row.id, "domain": domain.name, "decision": decision, "reviewer": reviewer, "created": now,
            "intent": intent if decision == "relabel" else None, "answer": answer if decision == "edit" else None}, "row")


def take_back(store: Store, row: str, reviewer: str) -> bool:
    """Undo what this reviewer decided about the row with that id, which then waits again; False where there is nothing."""
    mine = (reviews.c.row == row) & (reviews.c.reviewer == reviewer)
    with store.writing() as at:
        return at.execute(reviews.delete().where(mine)).rowcount > 0


def _misfit(row: Row, domain: Domain, decision: str, intent: str | None, answer: str | None) -> str:
    """Why the decision cannot be taken, with what can be done, or an empty string."""
    if decision not in DECISIONS:
        return f"There is no decision {decision!r}; use one of {', '.join(DECISIONS)}."
    if decision == "edit" and row.part == "router":
        return f"Row {row.id} holds a label and no answer; relabel it instead of editing it."
    if decision == "edit" and not answer:
        return f"Editing row {row.id} needs the better answer; give its words, or reject the row."
    if decision == "relabel" and row.part == "generator":
        return f"Row {row.id} holds an answer and no label; edit it or reject it."
    if decision == "relabel" and intent != OOS and intent not in domain.intents:
        return f"{domain.name} has no intent {intent!r}; it knows {', '.join(sorted(domain.intents))} and {OOS}."
    return ""


def queue(waiting: Sequence[Waiting]) -> list[Waiting]:
    """What waits, the most informative first; rows alike the ones that are shown already come later."""
    order = sorted(waiting, key=lambda each: (-each.score, each.row.created, each.row.id))
    later = {j for _, j in near_pairs([each.row.question for each in order], 0.6)}
    return [order[i] for i in range(len(order)) if i not in later] + [order[i] for i in sorted(later)]


def scored(store: Store, waiting: Sequence[Waiting], rows: Sequence[Row]) -> list[Waiting]:
    """With the score of a look: unsure routing (0 to 1), a dispute (0 or 1), and how many of `rows` are alike (0 to 1)."""
    spoken_of = turns.c.id.in_(sa.select(feedback.c.turn)) & turns.c.confidence.is_not(None)
    with store.reading() as at:
        found = at.execute(sa.select(turns.c.id, turns.c.confidence).where(spoken_of))
        unsure = {each.id: 1 - each.confidence for each in found}
        weak = set(at.execute(sa.select(signals.c.turn)).scalars())
    index = {row.id: number for number, row in enumerate(rows)}
    often = Counter(number for pair in near_pairs([row.question for row in rows], 0.6) for number in pair)
    made = []
    for each in waiting:
        disputed = each.row.turn in weak or any(reason.startswith(DISPUTES) for reason in each.reasons)
        alike = often[index[each.row.id]] if each.row.id in index else 0
        score = unsure.get(each.row.turn or "", 0.5) + disputed + min(1.0, math.log2(1 + alike) / 5)
        made.append(replace(each, score=round(score, 4)))
    return made
