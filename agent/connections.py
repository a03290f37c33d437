"""How connections to a database are made: SQLite's pragmas and transactions, and what values are fit to store."""

import json
import math
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import URL


def engine_for(url: URL) -> sa.Engine:
    """An engine for SQLite or PostgreSQL; ImportError names a driver that is missing."""
    more: dict[str, Any] = {"json_serializer": _dump, "hide_parameters": True}
    if url.get_backend_name() != "sqlite":
        return sa.create_engine(url, pool_pre_ping=True, **more)
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
        immediate = at.get_execution_options().get("immediate")
        at.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")

    return made


def _dump(value: Any) -> str:
    return json.dumps(clean(value), ensure_ascii=False, default=str)


def clean(value: Any) -> Any:
    """As given, but for what PostgreSQL, UTF-8 or JSON cannot hold.

    NUL and lone surrogates become U+FFFD, a number that is not finite becomes None.
    """
    if isinstance(value, str):
        value = value.replace("\0", "\N{REPLACEMENT CHARACTER}")
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if isinstance(value, dict):
        return {clean(name): clean(each) for name, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [clean(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
