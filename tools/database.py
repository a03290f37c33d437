"""The database behind the tools that change something: one SQLite file for each domain.

Knows the tables, how they are seeded from the domain's CSVs, and that a change happens once for
each key. Does not know when an order may be cancelled or a slot booked: that is each tool's own
affair.

Every connection is opened, used and closed inside one lock between processes, so a WAL would let
nobody read meanwhile: it would only be made and copied back at each close, also where a tool just
reads. Hence a rollback journal, truncated and synced at each commit. The database exists only once
it is seeded whole: it is built beside its place and moved in.
"""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from langchain_core.runnables import RunnableConfig
from sqlalchemy import (
    Column,
    Connection,
    Engine,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    create_engine,
    event,
    insert,
    select,
)
from sqlalchemy.pool import NullPool

from tools import dates, tables
from tools.lock import hold

META = MetaData()


def _table(name: str, key: str | None, columns: str, numbers: str = "") -> Table:
    """A table of text columns, `numbers` as integers; days are ISO text and money is cents."""
    kinds = {column: Integer for column in numbers.split()}
    return Table(
        name,
        META,
        *(
            Column(each, kinds.get(each, Text), primary_key=each == key, nullable=False, default="")
            for each in columns.split()
        ),
    )


customers = _table("customers", "customer", "customer name email country")
orders = _table(
    "orders",
    "order",
    "order customer placed status shipped due delivered ended refund_asked refunded refund_cents "
    "reason carrier tracking delivery_cents address",
    numbers="delivery_cents refund_cents",
)
items = _table("items", None, "order item quantity price_cents returnable", "quantity price_cents")
tickets = _table("tickets", "ticket", "ticket opened status summary")
appointments = _table("appointments", "appointment", "appointment day time status reason")
Index(  # the last word on double booking, should a writer ever go round the lock
    "one_booking_a_slot",
    appointments.c.day,
    appointments.c.time,
    unique=True,
    sqlite_where=appointments.c.status == "booked",
)
reminders = _table("reminders", "reminder", "reminder medicine time made")
changes = Table(
    "changes",
    META,
    Column("key", Text, primary_key=True),
    Column("tool", Text, primary_key=True),
    Column("made", Text, nullable=False),
    Column("result", Text, nullable=False),
)


@contextmanager
def transaction(config: RunnableConfig) -> Iterator[Connection]:
    """One transaction on the domain's database, seeded at first use; an error rolls it back."""
    data = tables.folder(config)
    path = place(config)
    path.parent.mkdir(parents=True, exist_ok=True)
    with hold(path.with_suffix(".lock")):
        if not path.exists():
            _seed(path, data)
        with engine(path).begin() as at:
            yield at


def change(
    config: RunnableConfig, tool: str, work: Callable[[Connection], dict[str, Any]]
) -> dict[str, Any]:
    """Do `work` once for this turn's key; the same key again only returns the first result."""
    key = config.get("configurable", {}).get("key")
    assert key, f"{tool} changes something and needs config['configurable']['key'], got {key!r}"
    with transaction(config) as at:
        same = (changes.c.key == key) & (changes.c.tool == tool)
        done = at.execute(select(changes.c.result).where(same)).scalar()
        if done is not None:
            return dict(json.loads(done))
        result = work(at)
        made = dates.now(config).isoformat()
        at.execute(insert(changes).values(key=key, tool=tool, made=made, result=json.dumps(result)))
        return result


def next_number(at: Connection, column: Column[Any], first: int) -> int:
    """One more than the highest number among ids such as "TK-5012", or `first`."""
    taken = (int(each.rpartition("-")[2]) for each in at.execute(select(column)).scalars())
    return max(taken, default=first - 1) + 1


def place(config: RunnableConfig) -> Path:
    """Where the domain's database lies; the domain is the folder that holds `data`."""
    state = config.get("configurable", {}).get("state")
    assert state, (
        f"a tool needs config['configurable']['state'], got {config.get('configurable')!r}"
    )
    return (Path(state) / f"{tables.folder(config).resolve().parent.name}.db").resolve()


@lru_cache(maxsize=32)
def engine(path: Path) -> Engine:
    """The engine of one database; it keeps no connection open between transactions."""
    made = create_engine(f"sqlite:///{path}", poolclass=NullPool)

    @event.listens_for(made, "connect")
    def _pragmas(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves, or DDL escapes the transaction
        connection.execute("PRAGMA journal_mode=TRUNCATE")  # older ones are in WAL mode
        connection.execute("PRAGMA synchronous=FULL")

    @event.listens_for(made, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return made


def _seed(path: Path, data: Path) -> None:
    """Build the database beside its place, then move it in; called inside the lock."""
    fresh = path.with_suffix(".new")
    # What a killed seeding left, and the journals of a database that somebody deleted.
    journals = (f"{file}-{end}" for file in (fresh, path) for end in ("journal", "wal", "shm"))
    for left in (fresh, *journals):
        Path(left).unlink(missing_ok=True)
    building = create_engine(f"sqlite:///{fresh}", poolclass=NullPool)
    with building.begin() as at:
        META.create_all(at)
        for table in META.sorted_tables:
            source = data / f"{table.name}.csv"
            if source.exists() and (found := tables.read(source, source.stat().st_mtime_ns)):
                at.execute(insert(table), [_typed(table, row) for row in found])
    with fresh.open("rb+") as file:
        os.fsync(file.fileno())
    os.replace(fresh, path)


def _typed(table: Table, row: tables.Row) -> dict[str, str | int]:
    numbers = {column.name for column in table.columns if isinstance(column.type, Integer)}
    return {name: int(value or 0) if name in numbers else value for name, value in row.items()}
