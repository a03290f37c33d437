"""A PostgreSQL server of the tests' own: made in a folder, started, crashed, started again, stopped.

Debian's package is enough: `apt-get install postgresql`. It does not wait for its disk (`fsync=off`): what survives here is
the end of a server, not of a machine.
"""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from agent import schema
from agent.store import Store

PASSWORD = "p@ss:w/rd%20 é"  # what a URL must escape
MISSING = "no PostgreSQL server is installed here (on Debian: apt-get install postgresql)"
TABLES = [each.name for each in vars(schema).values() if isinstance(each, sa.Table) and each is not schema.places]


def find() -> Path | None:
    """The folder of the newest server's programs, or None; RETUNE_TEST_POSTGRES names another."""
    if named := os.environ.get("RETUNE_TEST_POSTGRES"):
        return Path(named)
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda file: int(file.parts[-3]))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).resolve().parent if on_path else None


class Server:
    """One server, on a socket in its folder and on a loopback port; the role `retune` may do all."""

    def __init__(self, programs: Path) -> None:
        self.programs = programs
        self.folder = Path(tempfile.mkdtemp(prefix="retune-pg-"))  # short, as a socket's path must be
        self._who: dict[str, Any] = {}
        if os.getuid() == 0:  # as whom PostgreSQL does not run
            self._who = {"user": "nobody", "group": "nogroup", "extra_groups": []}
            shutil.chown(self.folder, "nobody", "nogroup")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        secret = self.folder / "password"
        secret.write_text(PASSWORD, encoding="utf-8")
        # en-US, as the usual image has it: it sorts otherwise than Python and SQLite do
        self._run("initdb", "--pgdata", self.folder / "data", "--username=retune", "--encoding=UTF8", "--locale=C.UTF-8",
                  "--locale-provider=icu", "--icu-locale=en-US", "--auth-local=trust", "--auth-host=scram-sha-256",
                  f"--pwfile={secret}", "--no-sync")
        self.start()
        self._emptied, self._count = "", 0

    def _run(self, program: str, *args: Any) -> None:
        done = subprocess.run([self.programs / program, *map(str, args)], cwd=self.folder, capture_output=True, text=True,
                              **self._who)
        assert done.returncode == 0, f"{program}: {done.stdout}{done.stderr}"

    def start(self) -> None:
        """Start it and wait until it answers."""
        with (self.folder / "log").open("ab") as log:
            last = ["setpriv", "--pdeathsig", "INT"] if shutil.which("setpriv") else []  # with tests that are killed
            self.process = subprocess.Popen(
                [*last, self.programs / "postgres", "-D", self.folder / "data", "-p", str(self.port), "-k", self.folder,
                 "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-c", "deadlock_timeout=200ms"],
                cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, **self._who)
        for _ in range(1200):
            asked = subprocess.run([self.programs / "pg_isready", "-q", "-h", self.folder, "-p", str(self.port)])
            if asked.returncode == 0:
                return
            assert self.process.poll() is None, self.log()
            time.sleep(0.05)
        raise AssertionError(self.log())

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT rolls back what is open; SIGQUIT is a crash, after which the next start recovers from the journal."""
        self.process.send_signal(how)
        self.process.wait(60)

    def remove(self) -> None:
        """Stop it and delete its folder."""
        with suppress(ProcessLookupError):
            self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def log(self) -> str:
        """What the server said."""
        return (self.folder / "log").read_text(encoding="utf-8")

    def url(self, database: str = "postgres") -> str:
        """By its socket."""
        where = {"host": str(self.folder), "port": str(self.port)}
        return sa.URL.create("postgresql+psycopg", "retune", database=database, query=where).render_as_string()

    def tcp(self, database: str = "postgres", password: str = PASSWORD) -> str:
        """By its loopback port, with a password."""
        made = sa.URL.create("postgresql+psycopg", "retune", password, "127.0.0.1", self.port, database)
        return made.render_as_string(hide_password=False)

    def say(self, *statements: str, database: str = "postgres") -> list[Any]:
        """Run statements, each by itself; the first column of the last one's rows."""
        engine = sa.create_engine(self.url(database), isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
        with engine.connect() as at:
            for statement in statements:
                found = at.exec_driver_sql(statement)
            return list(found.scalars()) if found.returns_rows else []

    def create(self) -> str:
        """Make a database and return its name."""
        self._count += 1
        self.say(f"CREATE DATABASE test{self._count}")
        return f"test{self._count}"

    def empty(self) -> str:
        """The URL of a database with Retune's tables and without a row: the one before, unless it was taken apart."""
        try:
            assert self._emptied
            self.say("SET lock_timeout = '2s'", f"TRUNCATE {', '.join(TABLES)}", database=self._emptied)
        except (sa.exc.DBAPIError, AssertionError):
            self._emptied = self.create()
            with closing(Store(self.url(self._emptied))) as made:
                made.open()
        return self.url(self._emptied)
