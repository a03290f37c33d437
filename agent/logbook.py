"""How turns are written, many at once, and what is read before one begins.

Knows the rows of sessions and turns; does not know who waits for them (that is `agent.group`), nor how a turn is made.
Everything here works inside a transaction that is open. Few statements: the same number for one turn and for sixty.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from agent import desk
from agent.connections import insert
from agent.errors import StoreError
from agent.schema import sessions, signals, turns
from agent.types import Message, Turn

if TYPE_CHECKING:
    from agent.signals import Signal

_SESSION = tuple(sessions.c[name] for name in "id domain author state created turns".split())
_TURN = tuple(turns.c[name].label(f"turn_{name}") for name in "id question reply state intent error".split())
_AS_IS = (
    "id session domain bundle reply intent state slots tool tool_arguments tool_result flags "
    "abstained timings_ms engine prompt_tokens tokens"
).split()
_MORE = 4  # turns read beyond those that are wanted, as some of them may have failed

# Made once: to build a statement takes as long as to run it.
_BEFORE = (sa.select(*_SESSION, *_TURN).outerjoin(turns, turns.c.session == sessions.c.id)
           .where(sessions.c.id == sa.bindparam("session")).order_by(turns.c.seq.desc()).limit(sa.bindparam("most")))
_IDS = sa.bindparam("ids", expanding=True)
_LOCKED = sa.select(*_SESSION).where(sessions.c.id.in_(_IDS)).order_by(sessions.c.id).with_for_update(key_share=True)
_KNOWN = sa.select(turns.c.id).where(turns.c.id.in_(_IDS))
_NEW = turns.insert()
_CHANGED = ("author", "state", "turns", "updated")
_CHANGE = sessions.update().where(sessions.c.id == sa.bindparam("new_id")).values(
    archived=False, **{name: sa.bindparam(f"new_{name}", type_=sessions.c[name].type) for name in _CHANGED})


@dataclass(frozen=True, slots=True)
class Logged:
    """A turn and what is written with it."""

    turn: Turn
    state: dict[str, Any]
    """The session's dialogue state after it."""
    messages: list[Message] | None = None
    handoff: str | None = None
    error: str | None = None
    signals: "Sequence[Signal]" = ()
    author: str = ""


@dataclass(frozen=True, slots=True)
class Before:
    """What a session holds when its next turn begins."""

    session: dict[str, Any]
    """As `Store.session` gives it; nothing is written for one that is new."""
    last: dict[str, Any] | None
    """The newest turn, failed or not: {"id", "question", "reply", "state", "intent", "error"}."""
    history: list[tuple[str, str]]
    """As `Store.history` gives it."""


def before(at: sa.Connection, id: str, domain: str, author: str, limit: int) -> Before:
    """`Store.before`, by one query unless the newest turns failed."""
    found = at.execute(_BEFORE, {"session": id, "most": limit + _MORE}).mappings().all()
    if not found:
        new = {"id": id, "domain": domain, "author": author, "state": {}, "created": now(), "turns": 0}
        return Before(new, None, [])
    session = {column.name: found[0][column.name] for column in _SESSION}
    check_domain(session, domain)
    session["author"] = session["author"] or author
    said = [{label.name.removeprefix("turn_"): row[label.name] for label in _TURN} for row in found if row["turn_id"]]
    fine = [(each["question"], each["reply"]) for each in said if each["error"] is None and each["state"] != "error"][:limit]
    if len(fine) < limit and len(said) == limit + _MORE:
        fine = history(at, id, limit)[::-1]
    return Before(session, said[0] if said else None, fine[::-1])


def history(at: sa.Connection, session: str, limit: int) -> list[tuple[str, str]]:
    """`Store.history`."""
    fine = (turns.c.session == session) & turns.c.error.is_(None) & (turns.c.state != "error")
    last = sa.select(turns.c.question, turns.c.reply).where(fine).order_by(turns.c.seq.desc()).limit(limit)
    return [(row.question, row.reply) for row in reversed(at.execute(last).all())]


def write(at: sa.Connection, rows: Sequence[Logged]) -> None:
    """Each turn gets its session's next place, in the order of `rows`; one that is there already stays as it is."""
    held = _locked(at, {row.turn.session: row.turn.domain for row in rows})
    known = set(at.execute(_KNOWN, {"ids": [row.turn.id for row in rows]}).scalars())
    fresh: dict[str, tuple[Logged, dict[str, Any]]] = {}
    for row in rows:
        session = held[row.turn.session]
        check_domain(session, row.turn.domain)
        if row.turn.id in known or row.turn.id in fresh:
            continue
        session |= {"turns": session["turns"] + 1, "state": row.state, "author": session["author"] or row.author,
                    "updated": now()}
        fresh[row.turn.id] = row, _values(row, session["turns"], session["updated"])
    if not fresh:
        return
    at.execute(_NEW, [values for _, values in fresh.values()])
    changed = {row.turn.session: held[row.turn.session] for row, _ in fresh.values()}
    at.execute(_CHANGE, [{f"new_{name}": session[name] for name in ("id", *_CHANGED)} for session in changed.values()])
    for row, values in fresh.values():
        if row.handoff is not None:
            desk.open_handoff(at, values, row.handoff, values["created"])
        for sign in row.signals:
            _write_signal(at, sign, values["created"])


def _locked(at: sa.Connection, wanted: dict[str, str]) -> dict[str, dict[str, Any]]:
    """The sessions' rows by id, made where they are not there: id -> domain.

    The rows' locks give every process on PostgreSQL places of its own. They are taken in one order everywhere, and leave out
    the keys, so that feedback and hand-offs, whose rows point to these, wait for nobody and nobody for them.
    """
    ids = sorted(wanted)
    held = {row["id"]: dict(row) for row in at.execute(_LOCKED, {"ids": ids}).mappings()}
    if missing := [id for id in ids if id not in held]:
        begin(at, {id: wanted[id] for id in missing})
        held = {row["id"]: dict(row) for row in at.execute(_LOCKED, {"ids": ids}).mappings()}
    return held


def begin(at: sa.Connection, new: dict[str, str], author: str = "") -> None:
    """Make sessions, id -> domain, that are not there; nothing when two processes do so at once."""
    rows = [{"id": id, "domain": domain, "author": author, "state": {}, "turns": 0, "title": "", "archived": False,
             "created": (made := now()), "updated": made} for id, domain in sorted(new.items())]
    at.execute(insert(at, sessions).on_conflict_do_nothing(), rows)


def check_domain(session: dict[str, Any], domain: str) -> None:
    """Raise StoreError for a session of another domain."""
    if session["domain"] != domain:
        raise StoreError(
            f"Session {session['id']!r} belongs to the domain {session['domain']!r}, not to "
            f"{domain!r}; start another session."
        )


def now() -> str:
    """As the tables keep it."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def _values(row: Logged, seq: int, created: str) -> dict[str, Any]:
    turn = row.turn
    return {name: getattr(turn, name) for name in _AS_IS} | {
        "seq": seq,
        "question": turn.redacted,
        "passages": [passage.id for passage in turn.passages],
        "confidence": turn.route and turn.route.confidence,
        "oos": turn.route and turn.route.oos,
        "ranking": turn.route.ranking if turn.route else [],
        "messages": row.messages,
        "error": row.error,
        "created": created,
    }


def _write_signal(at: sa.Connection, sign: "Signal", now: str) -> None:
    """Once for each name; nothing where the turn has been deleted meanwhile."""
    if at.execute(sa.select(turns.c.id).where(turns.c.id == sign.turn)).scalar() is not None:
        new = {"turn": sign.turn, "name": sign.name, "detail": sign.detail, "created": now}
        at.execute(insert(at, signals).values(new).on_conflict_do_nothing())
