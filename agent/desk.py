"""The hand-off desk: conversations that wait for a person, who takes them, who gives them back.

Knows the table of hand-offs; a person's answer is feedback (`agent.store.Store.feedback`, kind `reply`). Everything here
works inside a transaction that is open. waiting -> taken -> answered; a hand-off is never deleted once it was answered.
"""

from typing import Any

import sqlalchemy as sa

from agent import teaching
from agent.errors import DataError
from agent.schema import feedback, handoffs, turns


def open_handoff(at: sa.Connection, turn: dict[str, Any], reason: str, now: str, author: str = "") -> None:
    """Put the session of a logged turn {"id", "session", "domain"} on the desk, as it is now."""
    said = sa.select(turns.c.question, turns.c.reply).where(turns.c.session == turn["session"]).order_by(turns.c.seq)
    new = {"turn": turn["id"], "session": turn["session"], "domain": turn["domain"], "reason": reason, "status": "waiting",
           "author": author, "by": "", "created": now, "conversation": [dict(row) for row in at.execute(said).mappings()]}
    at.execute(handoffs.insert().values(new))


def wish(at: sa.Connection, turn_id: str, author: str, reason: str, now: str) -> None:
    """`Store.hand_off`."""
    turn = at.execute(sa.select(turns).where(turns.c.id == turn_id).with_for_update(key_share=True)).mappings().first()
    if turn is None:
        raise DataError(teaching.unknown_turn(turn_id))
    held = one(at, turn_id)
    if held is None:
        open_handoff(at, dict(turn), reason, now, author)
    elif held["status"] == "answered":
        raise DataError(f"Turn {turn_id!r} was handed off and answered; say in a new message what is missing.")


def withdraw(at: sa.Connection, turn_id: str, author: str) -> bool:
    """Take back a wish of this author's that nobody has taken; False where there is none."""
    mine = (handoffs.c.turn == turn_id) & (handoffs.c.author == author) & (handoffs.c.author != "")
    return at.execute(handoffs.delete().where(mine & (handoffs.c.status == "waiting"))).rowcount > 0


def take(at: sa.Connection, turn_id: str, by: str) -> dict[str, Any]:
    """`Store.take`: of two people at once, one changes the row and the other finds it changed."""
    if not by.strip():
        raise DataError("People without a name cannot be told apart; say who takes the conversation.")
    free = (handoffs.c.turn == turn_id) & (handoffs.c.status == "waiting")
    at.execute(handoffs.update().where(free).values(status="taken", by=by))
    held = one(at, turn_id)
    if held is None:
        raise DataError(teaching.not_handed_off(turn_id))
    if held["status"] == "answered":
        raise DataError(f"Turn {turn_id!r} was answered already; take another conversation.")
    if held["by"] != by:
        raise DataError(f"{held['by']} has taken turn {turn_id!r}; take another conversation, or ask them to release it.")
    return held


def release(at: sa.Connection, turn_id: str, by: str | None = None) -> None:
    """`Store.release`."""
    if one(at, turn_id) is None:
        raise DataError(teaching.not_handed_off(turn_id))
    taken = (handoffs.c.turn == turn_id) & (handoffs.c.status == "taken")
    taken = taken if by is None else taken & (handoffs.c.by == by)
    at.execute(handoffs.update().where(taken).values(status="waiting", by=""))


def reopen(at: sa.Connection, turn_id: str) -> None:
    """An answered hand-off whose last reply was taken back waits again, for whoever had taken it if somebody had."""
    replies = sa.select(feedback.c.turn).where((feedback.c.turn == turn_id) & (feedback.c.kind == "reply"))
    answered = (handoffs.c.turn == turn_id) & (handoffs.c.status == "answered") & ~replies.exists()
    waits = sa.case((handoffs.c.by == "", "waiting"), else_="taken")
    at.execute(handoffs.update().where(answered).values(status=waits))


def one(at: sa.Connection, turn_id: str) -> dict[str, Any] | None:
    """`Store.handoff`."""
    found = at.execute(sa.select(handoffs).where(handoffs.c.turn == turn_id)).mappings().first()
    return dict(found) if found else None
