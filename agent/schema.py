"""The tables, for queries. `migrations/` makes them, with their keys and indexes; times are ISO text in UTC."""

from typing import Any

import sqlalchemy as sa

from agent.connections import clean


class _Said(sa.types.TypeDecorator[str]):
    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> Any:
        return clean(value)


def _columns(names: str, kind: Any) -> list[sa.Column[Any]]:
    return [sa.Column(name, kind) for name in names.split()]


_meta = sa.MetaData()
_json = sa.JSON(none_as_null=True)
sessions = sa.Table(
    "sessions",
    _meta,
    *_columns("id domain author title created updated", _Said),
    *_columns("state", _json),
    sa.Column("turns", sa.Integer),
    sa.Column("archived", sa.Boolean),
)
turns = sa.Table(
    "turns",
    _meta,
    *_columns("id session domain bundle question reply intent state", _Said),
    *_columns("tool tool_result error created engine", _Said),
    *_columns("ranking slots passages tool_arguments flags timings_ms messages", _json),
    *_columns("confidence oos", sa.Float),
    *_columns("seq prompt_tokens tokens", sa.Integer),
    sa.Column("abstained", sa.Boolean),
)
places = sa.Table("places", _meta, sa.Column("id", sa.Integer), sa.Column("turn", _Said))
"""SQLite alone: a number for each turn that stays; triggers keep it and the index `words` beside it."""
words = sa.table("words", sa.column("rowid"), sa.column("rank"), sa.column("words"))
"""SQLite alone: the full-text index of question and reply."""
handoffs = sa.Table(
    "handoffs",
    _meta,
    *_columns("turn session domain reason status created author", _Said),
    sa.Column("by", _Said, quote=True),
    *_columns("conversation", _json),
)
"""waiting, taken or answered; `author` wished it (empty: the agent did), `by` took it."""
feedback = sa.Table("feedback", _meta, *_columns("turn author kind value created", _Said))
signals = sa.Table("signals", _meta, *_columns("turn name detail created", _Said))
"""Weak signs that nobody gave on purpose: reask, disputed, handoff_after_answer. They never train on their own."""
reviews = sa.Table(
    "reviews",
    _meta,
    *_columns("row domain decision intent answer reviewer created", _Said),
)
"""What a reviewer decided about a row (tuning.rows.Row.id): accept, edit, relabel or reject."""
authors = sa.Table("authors", _meta, *_columns("name status created", _Said))
"""trusted or blocked; an author who is not here is new, and what he teaches waits for review."""
forgotten = sa.Table("forgotten", _meta, *_columns("key created", _Said))
"""sha256 of the names of people who asked to be forgotten: an old export does not bring them back."""
runs = sa.Table(
    "runs",
    _meta,
    *_columns("id job window status holder lease_until stage created updated", _Said),
    *_columns("detail", _json),
    sa.Column("token", sa.Integer),
)
"""One row for each (job, window); `token` grows with every holder, so that one who slept too long is refused."""
keys = sa.Table(
    "keys",
    _meta,
    *_columns("hash name tenant created revoked", _Said),
    *_columns("scopes", _json),
    *_columns("rate at_once", sa.Integer),
)
"""`hash`: of the secret; `rate`: calls a minute; `revoked`: when, or empty. A row stays, so that no name is given twice."""
