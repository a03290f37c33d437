"""How connections to a database are made: what SQLite and PostgreSQL are told first, and what values are fit to store."""

import json
import math
import re
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL

PATIENCE = {"connect_timeout": "10", "keepalives_idle": "30", "keepalives_interval": "10", "keepalives_count": "3",
            "tcp_user_timeout": "30000", "application_name": "retune"}
"""What libpq is told unless the URL says otherwise: a server that vanished is noticed in half a minute, not in hours."""


_HALVES = re.compile("[\ud800-\udfff]")


def engine_for(url: URL) -> sa.Engine:
    """An engine for SQLite or PostgreSQL; ImportError names a driver that is missing."""
    more: dict[str, Any] = {"json_serializer": dump, "hide_parameters": True}
    if url.get_backend_name() != "sqlite":
        return _postgresql(url, more)
    # No overflow: a connection that is made stays until `close`.
    made = sa.create_engine(url, max_overflow=0, **more)

    @sa.event.listens_for(made, "connect")
    def _pragmas(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves, or DDL escapes the transaction
        for pragma in ("busy_timeout=30000", "synchronous=FULL", "fullfsync=ON", "mmap_size=0"):
            connection.execute(f"PRAGMA {pragma}")
        connection.execute("PRAGMA foreign_keys=ON")

    @sa.event.listens_for(made, "begin")
    def _begin(at: sa.Connection) -> None:
        driver: Any = at.connection.driver_connection
        driver.execute("BEGIN IMMEDIATE" if at.get_execution_options().get("immediate") else "BEGIN")

    return made


def _postgresql(url: URL, more: dict[str, Any]) -> sa.Engine:
    patient = {name: value for name, value in PATIENCE.items() if name not in url.query}
    made = sa.create_engine(url.update_query_dict(patient), pool_pre_ping=True, **more)

    @sa.event.listens_for(made, "connect")
    def _wait(connection: Any, _: Any) -> None:
        with connection.cursor() as at:  # no option of the connection: poolers such as PgBouncer refuse those
            at.execute("SET lock_timeout = '30s'")
        connection.commit()

    return made


def insert(at: sa.Connection, table: sa.Table) -> Any:
    """An insert that knows what to do about a row that is there, as both databases have it."""
    return (postgresql if at.dialect.name == "postgresql" else sqlite).insert(table)


def replace(at: sa.Connection, table: sa.Table, row: dict[str, Any], key: str) -> None:
    """Put the row in the place of the one with the same `key`; two who do so at once leave one row."""
    new = insert(at, table).values(row)
    at.execute(new.on_conflict_do_update(index_elements=[key], set_={name: new.excluded[name] for name in row if name != key}))


def run(at: sa.Connection, said: str, values: dict[str, Any] | list[dict[str, Any]]) -> sa.CursorResult[Any]:
    """Run PostgreSQL's SQL with `:name` for a value, on SQLite too, as the driver takes it.

    For the few statements of every turn: what SQLAlchemy does to build and read one takes longer than SQLite takes to run it.
    Texts are to be fit to store already (`clean`), and tables dumped (`dump`). `= ANY(:ids)` takes `among(at, ids)`.
    """
    return at.exec_driver_sql(_spelled(at.dialect.name, said), values)


def among(at: sa.Connection, ids: list[str]) -> Any:
    """A list as `= ANY(:ids)` takes it."""
    return clean(ids) if at.dialect.name == "postgresql" else dump(ids)


@cache
def _spelled(dialect: str, said: str) -> str:
    if dialect == "postgresql":
        return re.sub(r":(\w+)", r"%(\1)s", said)
    return said.replace("= ANY(:ids)", "IN (SELECT value FROM json_each(:ids))").removesuffix(" FOR NO KEY UPDATE")


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, set | frozenset) else str(value)


# made once, as json.dumps would make it for each value
_encode = json.JSONEncoder(ensure_ascii=False, default=_plain, allow_nan=False).encode


def dump(value: Any) -> str:
    """JSON that both databases take; None for what it cannot hold, as `clean`."""
    try:
        said = _encode(value)
        if "\\u0000" not in said and (said.isascii() or _HALVES.search(said) is None):
            return said
    except ValueError:  # a number that is not finite
        pass
    return _encode(clean(value))


def clean(value: Any) -> Any:
    """As given, but for what PostgreSQL, UTF-8 or JSON cannot hold.

    NUL and lone surrogates become U+FFFD, a number that is not finite becomes None.
    """
    if isinstance(value, str):
        if "\0" not in value and (value.isascii() or _HALVES.search(value) is None):  # as nearly all are
            return value
        value = value.replace("\0", "\N{REPLACEMENT CHARACTER}")
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if isinstance(value, dict):
        return {clean(name): clean(each) for name, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [clean(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
