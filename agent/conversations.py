"""Conversations looked at as a whole: listed, named, laid away, read from the beginning, searched.

Knows how words are found by SQLite and by PostgreSQL; does not know how a turn is written (that is `agent.store`), nor
what anything looks like on a screen. Everything here works inside a transaction that is open.
"""

import re
import unicodedata
from typing import Any

import sqlalchemy as sa

from agent.connections import clean
from agent.errors import DataError
from agent.redact import Redactor
from agent.schema import feedback, places, sessions, turns, words

LONGEST_TITLE = 120
LONGEST_SEARCH = 200
"""Characters of a search that are read."""
AROUND = 60
"""Characters of a snippet on each side of what was found."""
_TRIGRAM = 3  # shorter words are not in SQLite's index
_EDGES = "\"'`“”„‘’«»()[]{}<>*:;,.!?^"
_text = turns.c.question + " " + turns.c.reply


def listed(at: sa.Connection, domain: str | None, limit: int, archived: bool, id: str | None,
           prefix: str = "") -> list[dict[str, Any]]:
    """`Store.sessions`."""
    opening = sa.select(turns.c.question).where(turns.c.session == sessions.c.id).order_by(turns.c.seq).limit(1)
    names = "id domain author title archived state created updated turns".split()
    query = sa.select(*(sessions.c[name] for name in names), sa.func.coalesce(opening.scalar_subquery(), "").label("first"))
    query = query.where(*below(at, sessions.c.id, prefix))
    if domain is not None:
        query = query.where(sessions.c.domain == domain)
    if id is not None:
        query = query.where(sessions.c.id == id)
    elif not archived:
        query = query.where(~sessions.c.archived)
    return [dict(row) for row in at.execute(query.order_by(sessions.c.updated.desc()).limit(limit)).mappings()]


def below(at: sa.Connection, column: sa.Column[Any], prefix: str) -> tuple[sa.ColumnElement[bool], ...]:
    """Conditions for texts that begin with `prefix`, compared by bytes: a range that an index answers; none for "".

    Not LIKE, which takes "acme" and "ACME" for one on SQLite, and not the order of a language, which may pass over signs.
    """
    if not prefix:
        return ()
    said = column.collate("C") if at.dialect.name == "postgresql" else column
    return said >= prefix, said < prefix[:-1] + chr(ord(prefix[-1]) + 1)


def rename(at: sa.Connection, session: str, title: str) -> str:
    """`Store.rename`."""
    redactor = Redactor()  # whose marks must not mean what the conversation's mean
    for said in at.execute(sa.select(_text).where(turns.c.session == session)).scalars():
        redactor.reserve(said)
    kept = " ".join(redactor.redact(clean(title)).split())[:LONGEST_TITLE].rstrip()
    _change(at, session, title=kept)
    return kept


def archive(at: sa.Connection, session: str, archived: bool) -> None:
    """`Store.archive`."""
    _change(at, session, archived=archived)


def whole(at: sa.Connection, session: str) -> list[dict[str, Any]]:
    """`Store.conversation`."""
    found = at.execute(sa.select(turns).where(turns.c.session == session).order_by(turns.c.seq)).mappings()
    said = {row["id"]: dict(row) | {"feedback": []} for row in found}
    query = sa.select(feedback).join(turns, turns.c.id == feedback.c.turn).where(turns.c.session == session)
    for row in at.execute(query.order_by(feedback.c.created, feedback.c.author, feedback.c.kind)).mappings():
        said[row["turn"]]["feedback"].append({name: row[name] for name in ("author", "kind", "value")})
    return list(said.values())


def search(at: sa.Connection, wanted: str, domain: str | None, limit: int) -> list[dict[str, Any]]:
    """`Store.search`."""
    terms = terms_of(wanted)
    if not terms:
        return []
    found = [dict(row) for row in at.execute(query_for(at.dialect.name, terms, domain, limit)).mappings()]
    return [row | {"snippet": snippet(row["question"], row["reply"], terms)} for row in found]


def terms_of(wanted: str) -> list[str]:
    """The words of a search, without quotes and full stops round them; what has only such signs stays."""
    said = clean(wanted)[:LONGEST_SEARCH].split()
    return list(dict.fromkeys(word.strip(_EDGES) or word for word in said))


def query_for(dialect: str, terms: list[str], domain: str | None, limit: int) -> sa.Select[Any]:
    """Turns whose question and reply together have every word, best first; a word is never syntax."""
    columns = (turns.c.id.label("turn"), turns.c.session, turns.c.domain, sessions.c.title, turns.c.question, turns.c.reply,
               turns.c.created)
    query = sa.select(*columns).join(sessions, sessions.c.id == turns.c.session)
    indexed = [term for term in terms if (_in_words if dialect == "postgresql" else _in_trigrams)(term)]
    best: list[Any] = []
    if indexed and dialect == "postgresql":
        simple = sa.literal_column("'simple'::regconfig")
        # the index's own expression, or PostgreSQL does not see that it fits
        said = sa.literal_column("to_tsvector('simple'::regconfig, left(turns.question || ' ' || turns.reply, 100000))")
        asked = sa.func.to_tsquery(simple, " & ".join(_lexeme(term) for term in indexed))
        query, best = query.where(said.op("@@")(asked)), [sa.func.ts_rank(said, asked).desc()]
    elif indexed:
        asked = " ".join('"' + term.replace('"', '""') + '"' for term in indexed)
        query = query.join(places, places.c.turn == turns.c.id).join(words, words.c.rowid == places.c.id)
        query, best = query.where(words.c.words.op("MATCH")(asked)), [words.c.rank]
    for term in terms:
        if term not in indexed:
            query = query.where(sa.or_(*(said.icontains(term, autoescape=True) for said in (turns.c.question, turns.c.reply))))
    if domain is not None:
        query = query.where(turns.c.domain == domain)
    return query.order_by(*best, turns.c.created.desc()).limit(limit)


def snippet(question: str, reply: str, terms: list[str]) -> str:
    """One line round the first word that is found, of the question if it is there."""
    for term in terms:
        for said in (question, reply):
            if found := re.search(re.escape(term), said, re.IGNORECASE):
                begin, end = max(0, found.start() - AROUND), found.end() + AROUND
                line = " ".join(said[begin:end].split())
                return f"{'…' if begin else ''}{line}{'…' if end < len(said) else ''}"
    return " ".join(question[:2 * AROUND].split())


def forget_words(at: sa.Connection) -> None:
    """Write the index anew: a deleted turn's words stay in it until it is, whatever SQLite does to the rest."""
    if at.dialect.name == "sqlite":
        at.execute(sa.insert(words).values(words="rebuild"))


def unknown_session(session: str) -> str:
    """The sentence for a conversation that is not in the database."""
    return f"There is no session {session!r}; `retune sessions` lists them."


def _change(at: sa.Connection, session: str, **new: Any) -> None:
    if not at.execute(sessions.update().where(sessions.c.id == session).values(new)).rowcount:
        raise DataError(unknown_session(session))


def _in_trigrams(term: str) -> bool:
    return len(term) >= _TRIGRAM


def _in_words(term: str) -> bool:
    """Whether PostgreSQL takes it for one word: its parser sees none in scripts without spaces, nor in emoji."""
    return all(unicodedata.category(sign) in ("Lu", "Ll", "Nd") for sign in term)


def _lexeme(term: str) -> str:
    """A word and what begins with it."""
    return f"'{term}':*"
