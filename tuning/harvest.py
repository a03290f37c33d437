"""What people said about turns, read from the store as rows. Decides what a signal teaches, not whether it can be trusted.

up: the reply is an answer to learn · correction, reply: the value is, and the model's own words are the worse ones ·
down: the reply is one to avoid · intent: the router's label · none_of_these: out of scope · comment: nothing.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from agent import slots
from agent.domain import Domain, asked_as
from agent.private import MARK
from agent.redact import Redactor
from agent.schema import feedback, turns
from agent.store import Store
from agent.types import Message
from tuning.rows import OOS, Dropped, Row

LABELS = ("intent", "none_of_these")
ANSWERS = ("up", "down", "correction", "reply")
GUARDED = {"unsupported_number", "forbidden"}
"""Flags of replies in which the guard put words of its own."""


def harvest(store: Store, domain: Domain, since: str | None = None) -> tuple[list[Row], list[Dropped]]:
    """(rows, what gave no row and why) of the domain's feedback, oldest first; `since`: only what was said later (ISO, UTC)."""
    before = turns.alias("before")
    last = (before.c.session == turns.c.session) & (before.c.seq == turns.c.seq - 1)
    said = [feedback.c[name].label(f"said_{name}") for name in ("author", "kind", "value", "created")]
    earlier = [before.c[name].label(f"before_{name}") for name in _TURN]
    query = sa.select(*(turns.c[name] for name in _TURN), *said, *earlier).select_from(
        feedback.join(turns, turns.c.id == feedback.c.turn).outerjoin(before, last))
    query = query.where((turns.c.domain == domain.name) & feedback.c.kind.in_(LABELS + ANSWERS))
    query = query.where(feedback.c.created > since) if since else query
    order = [feedback.c.created, feedback.c.turn, feedback.c.author, feedback.c.kind]
    with store.reading() as at:
        found = [dict(each) for each in at.execute(query.order_by(*order)).mappings()]
    rows, dropped = [], []
    for each in found:
        turn = _meant(each)
        row = _label(turn) if turn["said_kind"] in LABELS else _answer(turn, domain)
        if problem := _unusable(turn, row):
            dropped.append(Dropped(row, problem))
        else:
            rows.append(row)
    return rows, dropped


_TURN = ("id", "session", "bundle", "question", "reply", "messages", "flags", "error", "state", "abstained", "ranking")


def facts_of(messages: Sequence[Message]) -> tuple[str, ...] | None:
    """The facts of a prompt as agent.prompt.render wrote it; None where there is no such prompt."""
    _, mark, lines = messages[0]["content"].rpartition("\n\nFacts:\n") if messages else ("", "", "")
    return tuple(line[2:] for line in lines.split("\n") if line != "- (none)") if mark else None


def own_words(reply: str, domain: Domain) -> str:
    """A reply without what the agent adds to the generator's words: the disclosure, and the way back to an open question."""
    parts = reply.strip().split("\n\n")
    while len(parts) > 1 and (parts[-1].strip() == domain.rules.disclosure.strip() or parts[-1].startswith("Back to ")):
        parts.pop()
    return "\n\n".join(parts).strip()


def _meant(each: Mapping[str, Any]) -> Mapping[str, Any]:
    """The turn that was spoken of: a person's reply after hand-off is the better answer to the turn straight before it."""
    if each["said_kind"] != "reply" or each["messages"] or not each["before_messages"] or _flagged(each["flags"]):
        return each
    return dict(each) | {name: each[f"before_{name}"] for name in _TURN}


def _label(each: Mapping[str, Any]) -> Row:
    """A follow-up is learned after the question before it, as the router reads it."""
    question, earlier = each["question"], each["before_question"]
    if earlier and not each["before_error"] and slots.is_follow_up(question):
        question = asked_as((earlier, each["before_reply"]), question)
    intent = OOS if each["said_kind"] == "none_of_these" else each["said_value"]
    ranked = tuple(name for name, _ in each["ranking"] or ())
    return Row("router", each["said_kind"], question, intent=intent, ranked=ranked, **_lineage(each))


def _answer(each: Mapping[str, Any], domain: Domain) -> Row:
    """A generator row with the prompt as it stood."""
    messages, wrote = each["messages"] or [], own_words(each["reply"], domain)
    history = tuple(message["content"] for message in messages[1:-1])
    better = _redacted(each["said_value"] or "", each) if each["said_kind"] in ("correction", "reply") else None
    worse = wrote if better not in (None, wrote) and not GUARDED & set(each["flags"]) else None
    return Row("generator", each["said_kind"], messages[-1]["content"] if messages else each["question"],
               answer=wrote if better is None else better, rejected=worse, history=history, facts=facts_of(messages) or (),
               **_lineage(each))


def _lineage(each: Mapping[str, Any]) -> dict[str, str]:
    return {"turn": each["id"], "session": each["session"], "author": each["said_author"], "bundle": each["bundle"],
            "created": each["said_created"]}


def _redacted(text: str, each: Mapping[str, Any]) -> str:
    """Private values out, in case whoever wrote the feedback down did not see to it; the turn's marks stay marks."""
    redactor = Redactor()
    redactor.reserve(f"{each['question']}\n{each['reply']}")
    return redactor.redact(text).strip()


def _flagged(flags: Sequence[str]) -> bool:
    return any(flag.startswith("red_flag:") for flag in flags)


def _unusable(each: Mapping[str, Any], row: Row) -> str:
    """Why a row teaches nothing, or an empty string."""
    if each["error"] or "error" in each["flags"] or each["state"] == "error":
        return "the engine failed: that says nothing about the model"
    if _flagged(each["flags"]):
        return "a red flag: rules answer it, no model does"
    if "unreadable" in each["flags"]:
        return "the message was too long to be read"
    if not any(sign.isalpha() for sign in MARK.sub("", row.question)):
        return "no words to learn from"
    if row.part == "router":
        return ""
    if facts_of(each["messages"] or []) is None:
        return "a tool or a fixed text answered: there is no prompt to learn with"
    if not row.answer:
        return "an empty answer"
    if row.signal == "down" and GUARDED & set(each["flags"]):
        return "the guard's words were disliked, not the model's"
    if row.signal == "down" and each["abstained"]:
        return "a refusal was disliked: whether its passages held the answer is not known"
    return ""
