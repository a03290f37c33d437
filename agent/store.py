"""What was said and what people thought of it: sessions, turns, hand-offs and feedback as rows.

Knows the tables; does not know how a turn is made, what feedback teaches, or how the database under
them is kept whole (that is `agent.database`). Bring other queries over `turns`, `feedback` and the
rest through `Store.reading` and `Store.writing`.
"""

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from agent.database import Database, wal_bug
from agent.errors import DataError, StoreError
from agent.schema import feedback, handoffs, sessions, turns
from agent.types import Message, Turn

__all__ = ["FEEDBACK", "Store", "feedback", "handoffs", "sessions", "turns", "wal_bug"]

FEEDBACK = ("up", "down", "correction", "intent", "none_of_these", "comment")
VALUED = ("correction", "intent", "comment")
RIVALS = {"up": "down", "down": "up"}


_session = sa.select(*(sessions.c[name] for name in ("id", "domain", "state", "created", "turns")))
_as_is = (
    "id session domain bundle reply intent state slots tool tool_arguments tool_result flags "
    "abstained timings_ms"
).split()


class Store(Database):
    """A database with Retune's rows; every method is one transaction."""

    def session(self, id: str, domain: str) -> dict[str, Any]:
        """Read or create: {"id", "domain", "state": dialogue state, "created", "turns": count}."""
        if not (found := self._rows(_session.where(sessions.c.id == id))):
            with self.writing() as at:
                _begin_session(at, id, domain)
            found = self._rows(_session.where(sessions.c.id == id))
        _same_domain(found[0], domain)
        return found[0]

    def sessions(self, domain: str | None = None, limit: int = 50) -> list[dict[str, Any]]:
        """The sessions used last, newest first."""
        which = sa.true() if domain is None else sessions.c.domain == domain
        return self._rows(_session.where(which).order_by(sessions.c.updated.desc()).limit(limit))

    def log(
        self,
        turn: Turn,
        state: dict[str, Any],
        messages: list[Message] | None = None,
        handoff: str | None = None,
        error: str | None = None,
    ) -> None:
        """Write turn, dialogue state and hand-off (its reason) at once; on disk when it returns.

        Never `turn.question`. A turn that is logged already stays as it is.
        """
        now, mine = _now(), turns.c.session == turn.session
        with self.writing() as at:
            _begin_session(at, turn.session, turn.domain)
            # The row's lock is what gives every process on PostgreSQL a place of its own.
            row = sa.select(sessions).where(sessions.c.id == turn.session).with_for_update()
            session = at.execute(row).mappings().one()
            _same_domain(dict(session), turn.domain)
            if at.execute(sa.select(turns.c.id).where(turns.c.id == turn.id)).scalar() is not None:
                return
            seq = session["turns"] + 1
            at.execute(
                turns.insert().values(
                    {name: getattr(turn, name) for name in _as_is}
                    | {
                        "seq": seq,
                        "question": turn.redacted,
                        "passages": [passage.id for passage in turn.passages],
                        "confidence": turn.route and turn.route.confidence,
                        "oos": turn.route and turn.route.oos,
                        "ranking": turn.route.ranking if turn.route else [],
                        "messages": messages,
                        "error": error,
                        "created": now,
                    }
                )
            )
            new = {"state": state, "turns": seq, "updated": now}
            at.execute(sessions.update().where(sessions.c.id == turn.session).values(new))
            if handoff is not None:
                said = sa.select(turns.c.question, turns.c.reply).where(mine).order_by(turns.c.seq)
                at.execute(
                    handoffs.insert().values(
                        turn=turn.id,
                        session=turn.session,
                        domain=turn.domain,
                        reason=handoff,
                        status="waiting",
                        conversation=[dict(each) for each in at.execute(said).mappings()],
                        created=now,
                    )
                )

    def history(self, session: str, limit: int) -> list[tuple[str, str]]:
        """The last questions and replies, oldest first, without turns that failed."""
        fine = (turns.c.session == session) & turns.c.error.is_(None) & (turns.c.state != "error")
        last = sa.select(turns).where(fine).order_by(turns.c.seq.desc()).limit(limit)
        return [(row["question"], row["reply"]) for row in reversed(self._rows(last))]

    def turn(self, id: str) -> dict[str, Any] | None:
        """One turn's row; `passages` are ids."""
        return next(iter(self._rows(sa.select(turns).where(turns.c.id == id))), None)

    def last_turn(self, session: str) -> dict[str, Any] | None:
        """The session's newest turn."""
        last = sa.select(turns).where(turns.c.session == session).order_by(turns.c.seq.desc())
        return next(iter(self._rows(last.limit(1))), None)

    def handoffs(self, status: str = "waiting") -> list[dict[str, Any]]:
        """Hand-offs, oldest first; `conversation` is [{"question", "reply"}, ...]."""
        which = sa.select(handoffs).where(handoffs.c.status == status)
        return self._rows(which.order_by(handoffs.c.created))

    def feedback(self, turn_id: str, author: str, kind: str, value: str | None = None) -> None:
        """Set what this author says about the turn; up and down replace one another."""
        if kind not in FEEDBACK:
            raise DataError(f"There is no feedback {kind!r}; use one of {', '.join(FEEDBACK)}.")
        if kind in VALUED and not value:
            raise DataError(f"Feedback {kind!r} needs its text; give it as the value.")
        with self.writing() as at:
            known = sa.select(turns.c.id).where(turns.c.id == turn_id).with_for_update()
            if at.execute(known).scalar() is None:
                raise DataError(
                    f"There is no turn {turn_id!r}; take the id from an answer or a log."
                )
            own = (feedback.c.turn == turn_id) & (feedback.c.author == author)
            at.execute(feedback.delete().where(own & (feedback.c.kind == RIVALS.get(kind, ""))))
            new = _insert(at, feedback).values(
                turn=turn_id, author=author, kind=kind, value=value, created=_now()
            )
            at.execute(
                new.on_conflict_do_update(
                    index_elements=["turn", "author", "kind"],
                    set_={"value": new.excluded.value, "created": new.excluded.created},
                    where=feedback.c.value.is_distinct_from(new.excluded.value),
                )
            )

    def feedback_of(self, turn_id: str) -> list[dict[str, Any]]:
        """All feedback on the turn, oldest first."""
        which = sa.select(feedback).where(feedback.c.turn == turn_id)
        return self._rows(which.order_by(feedback.c.created, feedback.c.author, feedback.c.kind))

    def _rows(self, query: sa.Select[Any]) -> list[dict[str, Any]]:
        with self.reading() as at:
            return [dict(row) for row in at.execute(query).mappings()]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")


def _insert(at: sa.Connection, table: sa.Table) -> Any:
    return (postgresql if at.dialect.name == "postgresql" else sqlite).insert(table)


def _begin_session(at: sa.Connection, id: str, domain: str) -> None:
    """Make the session if it is not there; nothing when two processes do so at once."""
    new = {"id": id, "domain": domain, "state": {}, "turns": 0}
    new |= dict.fromkeys(("created", "updated"), _now())
    at.execute(_insert(at, sessions).values(new).on_conflict_do_nothing())


def _same_domain(session: dict[str, Any], domain: str) -> None:
    if session["domain"] != domain:
        raise StoreError(
            f"Session {session['id']!r} belongs to the domain {session['domain']!r}, not to "
            f"{domain!r}; start another session."
        )
