"""How turns are written, many at once, and what is read before one begins.

Knows the rows of sessions and turns; does not know who waits for them (that is `agent.group`), nor how a turn is made.
Everything here works inside a transaction that is open. Few statements: the same number for one turn and for sixty.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from agent import desk
from agent.connections import among, clean, dump, insert, run
from agent.errors import StoreError
from agent.schema import sessions, signals, turns
from agent.types import Message, Turn

if TYPE_CHECKING:
    from agent.signals import Signal

_SESSION = ("id", "domain", "author", "state", "created", "turns")
_SAID = ("id", "question", "reply", "state", "intent", "error")
_AS_IS = ("id", "session", "domain", "bundle", "reply", "intent", "state", "tool", "tool_result", "abstained", "engine",
          "prompt_tokens", "tokens")
_TABLES = ("slots", "tool_arguments", "flags", "timings_ms")
_BESIDE = ("seq", "question", "passages", "confidence", "oos", "ranking", "messages", "error", "created")
_MORE = 4  # turns read beyond those that are wanted, as some of them may have failed
_WIDE = ", ".join([f"sessions.{name}" for name in _SESSION] + [f"turns.{name} AS turn_{name}" for name in _SAID])
_BEFORE = (f"SELECT {_WIDE} FROM sessions LEFT OUTER JOIN turns ON turns.session = sessions.id "
           "WHERE sessions.id = :session ORDER BY turns.seq DESC LIMIT :most")
_LOCKED = f"SELECT {', '.join(_SESSION)} FROM sessions WHERE id = ANY(:ids) ORDER BY id FOR NO KEY UPDATE"
_KNOWN = "SELECT id FROM turns WHERE id = ANY(:ids)"
_COLUMNS = (*_AS_IS, *_TABLES, *_BESIDE)
_NEW = f"INSERT INTO turns ({', '.join(_COLUMNS)}) VALUES ({', '.join(f':{name}' for name in _COLUMNS)})"
_CHANGE = "UPDATE sessions SET archived = false, author = :author, state = :state, turns = :turns, updated = :updated WHERE id = :id"


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
    found = run(at, _BEFORE, {"session": clean(id), "most": limit + _MORE}).mappings().all()
    if not found:
        new = {"id": id, "domain": domain, "author": author, "state": {}, "created": now(), "turns": 0}
        return Before(new, None, [])
    session = _session(found[0])
    check_domain(session, domain)
    session["author"] = session["author"] or author
    said = [{name: row[f"turn_{name}"] for name in _SAID} for row in found if row["turn_id"]]
    fine = [(each["question"], each["reply"]) for each in said if each["error"] is None and each["state"] != "error"][:limit]
    if len(fine) < limit and len(said) == limit + _MORE:
        fine = history(at, id, limit)[::-1]
    return Before(session, said[0] if said else None, fine[::-1])


def _session(row: Mapping[str, Any]) -> dict[str, Any]:
    """A session's columns as `Store.session` gives them; SQLite's driver does not know that its state is JSON."""
    said = {name: row[name] for name in _SESSION}
    return said | {"state": json.loads(said["state"])} if isinstance(said["state"], str) else said


def history(at: sa.Connection, session: str, limit: int) -> list[tuple[str, str]]:
    """`Store.history`."""
    fine = (turns.c.session == session) & turns.c.error.is_(None) & (turns.c.state != "error")
    last = sa.select(turns.c.question, turns.c.reply).where(fine).order_by(turns.c.seq.desc()).limit(limit)
    return [(row.question, row.reply) for row in reversed(at.execute(last).all())]


def write(at: sa.Connection, rows: Sequence[Logged]) -> None:
    """Each turn gets its session's next place, in the order of `rows`; one that is there already stays as it is."""
    held = _locked(at, {row.turn.session: row.turn.domain for row in rows})
    known = set(run(at, _KNOWN, {"ids": among(at, [row.turn.id for row in rows])}).scalars())
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
    run(at, _NEW, [values for _, values in fresh.values()])
    changed = {row.turn.session: held[row.turn.session] for row, _ in fresh.values()}
    run(at, _CHANGE, [session | {"author": clean(session["author"]), "state": dump(session["state"])} for session in changed.values()])
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
    held = {row["id"]: _session(row) for row in run(at, _LOCKED, {"ids": among(at, ids)}).mappings()}
    if missing := [id for id in ids if id not in held]:
        begin(at, {id: wanted[id] for id in missing})
        held = {row["id"]: _session(row) for row in run(at, _LOCKED, {"ids": among(at, ids)}).mappings()}
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
    turn, route = row.turn, row.turn.route
    plain = {name: getattr(turn, name) for name in _AS_IS} | {
        "seq": seq, "question": turn.redacted, "confidence": route and route.confidence, "oos": route and route.oos,
        "error": row.error, "created": created}
    tables = {name: getattr(turn, name) for name in _TABLES} | {
        "passages": [passage.id for passage in turn.passages], "ranking": route.ranking if route else [],
        "messages": row.messages}
    return ({name: clean(value) for name, value in plain.items()}
            | {name: None if value is None else dump(value) for name, value in tables.items()})


def _write_signal(at: sa.Connection, sign: "Signal", now: str) -> None:
    """Once for each name; nothing where the turn has been deleted meanwhile."""
    if at.execute(sa.select(turns.c.id).where(turns.c.id == sign.turn)).scalar() is not None:
        new = {"turn": sign.turn, "name": sign.name, "detail": sign.detail, "created": now}
        at.execute(insert(at, signals).values(new).on_conflict_do_nothing())
