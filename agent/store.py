"""What was said and what people thought of it: sessions, turns, hand-offs and feedback as rows.

Knows the tables; does not know how a turn is made, what may be said about it (`agent.teaching`),
how conversations are searched (`agent.conversations`) or handed over (`agent.desk`), what feedback teaches, or
how the database under them is kept whole (that is `agent.database`). Bring other queries over `turns`,
`feedback` and the rest through `Store.reading` and `Store.writing`.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from agent import conversations, desk, logbook, teaching
from agent.connections import clean
from agent.database import Database, wal_bug
from agent.errors import DataError, StoreError
from agent.group import Group
from agent.logbook import Before, Logged, now
from agent.schema import feedback, handoffs, sessions, turns
from agent.types import Message, Turn

if TYPE_CHECKING:
    from agent.signals import Signal

__all__ = ["Before", "Store", "feedback", "handoffs", "sessions", "turns", "wal_bug"]

_session = sa.select(*(sessions.c[name] for name in "id domain author state created turns".split()))


class Store(Database):
    """A database with Retune's rows; every method is one transaction, which only turns share."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._logging: Group[Logged] = Group(self._write)

    def session(self, id: str, domain: str, author: str = "") -> dict[str, Any]:
        """Read or create: {"id", "domain", "author", "state": dialogue state, "created", "turns": count}.

        The first `author` who has a name stays the session's.
        """
        mine = _session.where(sessions.c.id == id)
        found = self._rows(mine)
        if not found or (found[0]["domain"] == domain and author and not found[0]["author"]):
            with self.writing() as at:
                logbook.begin(at, {id: domain})
                nobodys = (sessions.c.id == id) & (sessions.c.domain == domain) & (sessions.c.author == "")
                at.execute(sessions.update().where(nobodys).values(author=author))
            found = self._rows(mine)
        logbook.check_domain(found[0], domain)
        return found[0]

    def before(self, session: str, domain: str, author: str = "", limit: int = 2) -> Before:
        """What a turn needs to know: the session, its last turn, its history of `limit` turns; writes nothing.

        A session that is not there is described as `log` will make it. StoreError if it is another domain's.
        """
        with self.reading() as at:
            return logbook.before(at, session, domain, author, limit)

    def sessions(self, domain: str | None = None, limit: int = 50, archived: bool = False,
                 id: str | None = None, prefix: str = "") -> list[dict[str, Any]]:
        """The sessions used last, newest first, each as `session` gives it with {"title", "archived", "first", "updated"}.

        `first` is the first question, empty where nothing was asked yet; with `archived` those laid away are there too.
        `id`: that one alone, laid away or not. `prefix`: only those whose ids begin so, letter by letter.
        """
        with self.reading() as at:
            return conversations.listed(at, domain, limit, archived, id, prefix)

    def rename(self, session: str, title: str) -> str:
        """Give the session a title of one line, without private values, and return it; DataError if it is not there."""
        with self.writing() as at:
            return conversations.rename(at, session, title)

    def archive(self, session: str, archived: bool = True) -> None:
        """Lay the session away, or fetch it back, as its next turn does too; DataError if it is not there."""
        with self.writing() as at:
            conversations.archive(at, session, archived)

    def conversation(self, session: str) -> list[dict[str, Any]]:
        """All turns of the session as `turn` gives them, oldest first, each with "feedback": [{"author", "kind", "value"}]."""
        with self.reading() as at:
            return conversations.whole(at, session)

    def search(self, words: str, domain: str | None = None, limit: int = 50) -> list[dict[str, Any]]:
        """Turns that have every word: {"turn", "session", "domain", "title", "question", "reply", "created", "snippet"}.

        Best first. Words are found in any script and whatever signs they have; none of them is syntax.
        """
        with self.reading() as at:
            return conversations.search(at, words, domain, limit)

    def log(
        self,
        turn: Turn,
        state: dict[str, Any],
        messages: list[Message] | None = None,
        handoff: str | None = None,
        error: str | None = None,
        signals: "Sequence[Signal]" = (),
        author: str = "",
    ) -> None:
        """Write turn, dialogue state, hand-off (its reason) and weak signals at once; on disk when it returns.

        Never `turn.question`. A turn that is logged already stays as it is. Turns that come from several threads at once
        share a transaction; one that cannot be written costs no other.
        """
        assert self._opened, f"open() comes first ({self.name})"
        self._logging.put(Logged(turn, state, messages, handoff, error, signals, author))

    def _write(self, rows: Sequence[Logged]) -> None:
        """Once more where the server had gone, or where somebody was in the way: a turn that got through stays as it is."""
        for last in (False, True):
            try:
                with self.writing() as at:
                    return logbook.write(at, rows)
            except StoreError as error:
                if last or not error.again:
                    raise

    def history(self, session: str, limit: int) -> list[tuple[str, str]]:
        """The last questions and replies, oldest first, without turns that failed."""
        with self.reading() as at:
            return logbook.history(at, session, limit)

    def turn(self, id: str) -> dict[str, Any] | None:
        """One turn's row; `passages` are ids."""
        return next(iter(self._rows(sa.select(turns).where(turns.c.id == id))), None)

    def last_turn(self, session: str) -> dict[str, Any] | None:
        """The session's newest turn."""
        last = sa.select(turns).where(turns.c.session == session).order_by(turns.c.seq.desc())
        return next(iter(self._rows(last.limit(1))), None)

    def handoffs(self, status: str = "waiting", prefix: str = "", limit: int | None = None) -> list[dict[str, Any]]:
        """Hand-offs (waiting, taken or answered), oldest first; `conversation` is [{"question", "reply"}, ...].

        `prefix`: only of sessions whose ids begin so.
        """
        with self.reading() as at:
            which = sa.select(handoffs).where(handoffs.c.status == status, *conversations.below(at, handoffs.c.session, prefix))
            return [dict(row) for row in at.execute(which.order_by(handoffs.c.created).limit(limit)).mappings()]

    def handoff(self, turn_id: str) -> dict[str, Any] | None:
        """The hand-off of one turn, whatever its status."""
        with self.reading() as at:
            return desk.one(at, turn_id)

    def hand_off(self, turn_id: str, author: str, reason: str) -> None:
        """Let the turn's conversation wait for a person because `author` wishes so; again is nothing.

        DataError for a turn that is not there, or whose hand-off was answered.
        """
        with self.writing() as at:
            desk.wish(at, turn_id, author, reason, now())

    def take(self, turn_id: str, by: str) -> dict[str, Any]:
        """Mark the hand-off as taken and return it; DataError names who has it where that is somebody else."""
        with self.writing() as at:
            return desk.take(at, turn_id, by)

    def release(self, turn_id: str, by: str | None = None) -> None:
        """Let a hand-off that was taken wait again, with `by` only if that person has it; DataError if there is none."""
        with self.writing() as at:
            desk.release(at, turn_id, by)

    def feedback(self, turn_id: str, author: str, kind: str, value: str | None = None) -> None:
        """Set what this author says about the turn; a rival (`agent.teaching.RIVALS`) is taken back.

        A reply answers the turn's hand-off. DataError for a turn or a kind that is not there.
        """
        self.feedback_all([{"turn": turn_id, "author": author, "kind": kind, "value": value}])

    def feedback_all(self, said: Iterable[dict[str, Any]]) -> Counter[str]:
        """Write many {"turn", "author", "kind", "value", "created"} as one transaction, or none of them.

        Counts "written", "unchanged" and "older": said before what this author says now, and so left
        out. Without "created" it is said now. DataError for a turn or a kind that is not there.
        """
        rows = sorted((_cleaned(row) for row in said), key=lambda row: row["turn"])  # one order of locks everywhere
        for row in rows:
            teaching.check(row["kind"], row["value"])
        done = Counter({"written": 0, "unchanged": 0, "older": 0})
        with self.writing() as at:
            for begin in range(0, len(rows), 500):
                done.update(_say(at, rows[begin : begin + 500]))
        return done

    def answer_handoff(self, turn_id: str, author: str, text: str) -> None:
        """Keep what a person replied after the hand-off, which no longer waits; both at once."""
        self.feedback(turn_id, author, "reply", text)

    def retract(self, turn_id: str, author: str, kind: str) -> bool:
        """Take back what this author said about the turn; False if there is nothing, DataError for an unknown kind.

        A hand-off whose reply is taken back waits again. Kind `handoff`: the author's wish for one, unless somebody took it.
        """
        teaching.check_kind(kind, (*teaching.KINDS, "handoff"))
        mine = (feedback.c.turn == turn_id) & (feedback.c.author == author) & (feedback.c.kind == kind)
        with self.writing() as at:
            if kind == "handoff":
                return desk.withdraw(at, turn_id, author)
            # as `_say` does, or two who take back the last two replies would each still see the other's
            at.execute(sa.select(turns.c.id).where(turns.c.id == turn_id).with_for_update(key_share=True))
            gone = at.execute(feedback.delete().where(mine)).rowcount > 0
            if gone and kind == "reply":
                desk.reopen(at, turn_id)
            return gone

    def feedback_of(self, turn_id: str) -> list[dict[str, Any]]:
        """All feedback on the turn, oldest first."""
        which = sa.select(feedback).where(feedback.c.turn == turn_id)
        return self._rows(which.order_by(feedback.c.created, feedback.c.author, feedback.c.kind))

    def _rows(self, query: sa.Select[Any]) -> list[dict[str, Any]]:
        with self.reading() as at:
            return [dict(row) for row in at.execute(query).mappings()]


def _cleaned(row: dict[str, Any]) -> dict[str, Any]:
    named = {name: clean(row[name]) for name in ("turn", "author", "kind", "value")}
    return named | {"created": row.get("created")}


def _say(at: sa.Connection, rows: list[dict[str, Any]]) -> Counter[str]:
    """Write feedback of at most some hundred rows, in their order, by few statements; counts as `feedback_all`."""
    ids, done = {row["turn"] for row in rows}, Counter[str]()
    asked = sa.select(turns.c.id).where(turns.c.id.in_(ids)).order_by(turns.c.id).with_for_update(key_share=True)
    _all_there(ids, at.execute(asked).scalars(), teaching.unknown_turn)
    answered = {row["turn"] for row in rows if row["kind"] == "reply"}
    handed_off = handoffs.update().where(handoffs.c.turn.in_(answered)).values(status="answered")
    _all_there(answered, at.execute(handed_off.returning(handoffs.c.turn)).scalars(), teaching.not_handed_off)
    held = {_key(each): dict(each) for each in at.execute(sa.select(feedback).where(feedback.c.turn.in_(ids))).mappings()}
    before = set(held)
    new: dict[tuple[str, ...], dict[str, Any]] = {}
    for row in rows:
        turn_id, author, kind = _key(row)
        mine = [(turn_id, author, each) for each in (kind, *teaching.RIVALS.get(kind, ()))]
        own = [held[key] for key in mine if key in held]
        # what is said now is never older, whatever clocks say
        if any((each["kind"], each["value"]) == (kind, row["value"]) for each in own):
            done["unchanged"] += 1
        elif row["created"] and any(each["created"] > row["created"] for each in own):
            done["older"] += 1
        else:
            for key in mine:
                held.pop(key, None)
                new.pop(key, None)
            held[_key(row)] = new[_key(row)] = row | {"created": row["created"] or now()}
            done["written"] += 1
    if gone := [dict(zip(("t", "a", "k"), key)) for key in before if key in new or key not in held]:
        bound = (feedback.c[name] == sa.bindparam(name[0]) for name in ("turn", "author", "kind"))
        at.execute(feedback.delete().where(*bound), gone)
    if new:
        at.execute(feedback.insert(), list(new.values()))
    return done


def _key(row: Mapping[str, Any]) -> tuple[str, ...]:
    return row["turn"], row["author"], row["kind"]


def _all_there(wanted: set[str], found: Iterable[str], sentence: Callable[[str], str]) -> None:
    if missing := sorted(wanted - set(found)):
        raise DataError(sentence(missing[0]))
