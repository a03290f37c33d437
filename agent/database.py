"""One database, opened, checked, copied and closed without losing or damaging it.

Knows SQLite and PostgreSQL, locks and schema versions; does not know what the rows mean (that is
`agent.store`). `reading` and `writing` are one transaction each.

SQLite before 3.51.3 can corrupt a WAL when two connections write and checkpoint at once, so there
every commit and close holds one lock between processes. No connection closes before `close`,
because the last one to go checkpoints. And nothing here opens a living database file by hand:
closing it again would drop the POSIX locks of every SQLite connection in this process.
"""

import atexit
import os
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import make_url

from agent import migrations, postgresql
from agent.connections import engine_for
from agent.errors import StoreError
from agent.remedies import DAMAGED, explain
from tools.lock import hold


def wal_bug() -> bool:
    """Whether this SQLite can corrupt a WAL (sqlite.org/wal.html#walresetbug)."""
    return sqlite3.sqlite_version_info < (3, 51, 3)


class Database:
    """The database at a SQLAlchemy URL. Thread-safe; `open` it first."""

    def __init__(self, url: str) -> None:
        try:
            self.url = make_url(url)
            kind, file = self.url.get_backend_name(), self.url.database or ""
            if kind not in ("sqlite", "postgresql"):
                raise StoreError(f"There is no store in {kind}; use sqlite:/// or postgresql://.")
            if kind == "sqlite" and (file in ("", ":memory:") or file.startswith("file:")):
                raise StoreError("The store needs a file of its own; use sqlite:///FILE.")
            if kind == "postgresql" and self.url.get_driver_name() != "psycopg":
                raise StoreError("PostgreSQL is spoken to by psycopg; write its URL as postgresql+psycopg://.")
            self.engine = engine_for(self.url)
        except sa.exc.ArgumentError as error:
            raise StoreError("That is no database URL; use sqlite:///FILE.") from error
        except ImportError as error:
            raise StoreError(f"{error}; install it: `pip install retune[postgres]`.") from error
        self.path = Path(file) if kind == "sqlite" else None
        self.name = file if self.path else self.url.render_as_string(hide_password=True)
        self._immediate = self.engine.execution_options(immediate=True)
        one_view = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}  # by default each query has its own
        self._views = self.engine if self.path else self.engine.execution_options(**one_view)
        self._opened = False

    def open(self) -> None:
        """Make or check the database and bring it to the newest schema; StoreError if it cannot be.

        A damaged file stays as it is. The look at it is cheap; `check` reads all of it.
        """
        try:
            with self._explained():
                if self.path:
                    self.path.parent.mkdir(parents=True, exist_ok=True)
                with self._held(always=True):
                    self._prepare()
        except StoreError:
            self.close()
            raise
        self._opened = True
        atexit.register(self.close)  # or the last connection would checkpoint without the lock

    def close(self) -> None:
        """Let go of every connection; again is nothing."""
        self._opened = False
        with ExitStack() as stack:
            if self.path and self.engine.pool.checkedin():  # type: ignore[attr-defined]
                with suppress(OSError):  # the folder is gone: nothing is left to protect
                    stack.enter_context(hold(_beside(self.path, ".lock")))
            self.engine.dispose()
        atexit.unregister(self.close)

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """One view of the database, the same until it is left."""
        assert self._opened, f"open() comes first ({self.name})"
        with self._explained(), self._views.connect() as at:
            yield at

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """One transaction, on disk when it is left; an error rolls it back."""
        assert self._opened, f"open() comes first ({self.name})"
        with self._held(), self._explained(), self._immediate.begin() as at:
            yield at

    def check(self) -> list[str]:
        """Problems that a full check finds, each a sentence; open or not, it changes nothing."""
        try:
            if not self.path:
                with self._explained(), self.engine.connect() as at:
                    version = migrations.version(at)
                    return self._standing(version, full=True) + postgresql.problems(at, empty=version is None)
            if not self.path.exists():
                return [f"{self.path} does not exist yet; Retune makes it at its first start."]
            with self._held(), self._explained():
                return self._problems(self.path, full=True)
        except StoreError as error:
            return [str(error)]

    def server(self) -> postgresql.Server:
        """What a PostgreSQL server says of itself, open or not; StoreError if it cannot be reached."""
        with self._explained(), self.engine.connect() as at:
            return postgresql.look(at, empty=migrations.version(at) is None)

    def backup(self, to: Path) -> None:
        """Copy the living database whole to `to`; an earlier backup there is replaced."""
        if not self.path:
            raise StoreError("Retune backs up SQLite only; use pg_dump for PostgreSQL.")
        if to.resolve() == self.path.resolve() or _beside(to, "-wal").exists():
            raise StoreError(f"{to} is a database in use; choose another file for the backup.")
        fresh = _beside(to, ".new")
        try:
            to.parent.mkdir(parents=True, exist_ok=True)
            _empty(fresh)
            with self.reading() as at, closing(sqlite3.connect(fresh)) as copy:
                source: Any = at.connection.driver_connection
                source.backup(copy)
                if copy.execute("PRAGMA quick_check").fetchone() != ("ok",):
                    raise StoreError(DAMAGED.format(self.path))
            _publish(fresh, to)
        except OSError as error:
            raise StoreError(f"The backup cannot be written ({error}); choose a place.") from error
        finally:
            with suppress(OSError):
                fresh.unlink(missing_ok=True)

    def _prepare(self) -> None:
        """Called inside the lock."""
        if self.path and not self.path.exists():
            self._build(self.path)
        elif self.path and (problems := self._problems(self.path, full=False)):
            raise StoreError(problems[0])
        with self._immediate.begin() as at:  # for SQLite this also proves that we may write
            self._upgrade(at)
        if self.path:
            with closing(self.engine.raw_connection()) as raw:
                raw.cursor().execute("PRAGMA journal_mode=WAL")

    def _build(self, path: Path) -> None:
        """Make a whole database beside its place, then move it in: an empty file is never ours."""
        if _size(_beside(path, "-wal")):
            raise StoreError(
                f"{path} is missing but its journal {path}-wal is there; put the database back or "
                "move the journal away, then start again."
            )
        fresh = _beside(path, ".new")
        _empty(fresh)
        engine = engine_for(self.url.set(database=str(fresh)))
        try:
            with engine.begin() as at:
                self._upgrade(at)
        finally:
            engine.dispose()
        _publish(fresh, path)

    def _upgrade(self, at: sa.Connection) -> None:
        """To the newest schema in the open transaction; one process at a time."""
        if not self.path:  # whoever comes second waits for as long as the first one takes
            for said in ("SET LOCAL lock_timeout = 0", "SELECT pg_advisory_xact_lock(7383)", "SET LOCAL lock_timeout = '30s'"):
                at.exec_driver_sql(said)
        version = migrations.version(at)
        if problems := self._standing(version, full=False):
            raise StoreError(problems[0])
        if version != migrations.known()[-1]:
            migrations.upgrade(at)

    def _standing(self, version: str | None, full: bool) -> list[str]:
        if version and version not in migrations.known():
            return [f"{self.name} was made by a newer Retune; update Retune, then start again."]
        if full and version is None:
            return [f"{self.name} has none of Retune's tables yet; Retune makes them at its first start."]
        if full and version != migrations.known()[-1]:
            return [f"{self.name} has an older schema; start Retune once to bring it up to date."]
        return []

    def _problems(self, path: Path, full: bool) -> list[str]:
        """What is wrong with this file; read-only, so that closing cannot checkpoint into it."""
        if _size(path) < 512:  # SQLite takes a file of 0 or 1 bytes for a new one
            return [DAMAGED.format(path)]
        file = f"{path.resolve().as_uri()}?mode=ro"
        with closing(sqlite3.connect(file, uri=True, isolation_level=None, timeout=30)) as at:

            def ask(query: str) -> list[Any]:
                return at.execute(query).fetchall()

            ask("BEGIN")  # nobody checkpoints or resets the journal while the sizes are compared
            if ("retune_version",) not in ask("SELECT name FROM sqlite_master"):
                return [f"{path} is not a database of Retune's; choose another file."]
            found = self._standing(ask("SELECT max(version_num) FROM retune_version")[0][0], full)
            pages = ask("PRAGMA page_count")[0][0] * ask("PRAGMA page_size")[0][0]
            if not _size(_beside(path, "-wal")) and pages != _size(path):
                return [DAMAGED.format(path)]
            if full:
                rows = [row for (row,) in ask("PRAGMA quick_check") if row != "ok"]
                found += [f"{path} is damaged: {row}." for row in rows]
                lost = ask("PRAGMA foreign_key_check")
                found += [
                    f"{path}: row {row} of {table} lost its {to}." for table, row, to, _ in lost
                ]
            return found

    @contextmanager
    def _held(self, always: bool = False) -> Iterator[None]:
        with ExitStack() as stack:
            if self.path and (always or wal_bug()):
                try:
                    stack.enter_context(hold(_beside(self.path, ".lock")))
                except OSError as error:
                    raise explain(self.name, error) from error
            yield

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (sa.exc.DBAPIError, sa.exc.TimeoutError, sqlite3.Error, OSError) as error:
            raise explain(self.name, error) from (error if self.path else None)  # PostgreSQL's own text quotes rows


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _empty(fresh: Path) -> None:
    """An empty file that only its owner may read; what a killed attempt left there goes."""
    for ending in ("", "-journal", "-wal", "-shm"):
        _beside(fresh, ending).unlink(missing_ok=True)
    os.close(os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


def _publish(fresh: Path, path: Path) -> None:
    """Move a whole file to its place; both the file and its name are on disk afterwards."""
    with fresh.open("rb+") as file:
        os.fsync(file.fileno())
    os.replace(fresh, path)
    if os.name == "posix":  # Windows opens no folders
        folder = os.open(path.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
