"""What may be wrong on this machine, each finding with its remedy. Looks, changes nothing."""

import importlib.metadata
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from agent import models
from agent.database import wal_bug
from agent.domain import Domain, shipped
from agent.errors import RetuneError
from agent.prompt import prompt_hash
from agent.registry import Registry
from agent.settings import Settings
from agent.store import Store

NEEDED = ("torch", "transformers", "peft", "onnxruntime", "faiss-cpu", "bm25s", "langchain-core", "SQLAlchemy", "alembic")
FREE_MB = 1000  # base models, a training run and a database that grows


@dataclass(frozen=True, slots=True)
class Finding:
    """One look: what, whether it is well, and what to do if not."""

    what: str
    ok: bool
    detail: str
    remedy: str = ""

    def table(self) -> dict[str, Any]:
        """As plain data."""
        return {"what": self.what, "ok": self.ok, "detail": self.detail, "remedy": self.remedy}

    def __str__(self) -> str:
        mark = "ok  " if self.ok else "BAD "
        return f"{mark} {self.what:<12} {self.detail}" + (f"\n     -> {self.remedy}" if self.remedy else "")


def examine(settings: Settings) -> list[Finding]:
    """All findings, in the order in which they should be mended."""
    return [_python(), *_packages(), _disk(settings), _sqlite(), *_database(settings), *_models(settings), *_bundles(settings),
            *examine_vllm(settings)]


def _python() -> Finding:
    ok = sys.version_info >= (3, 11)
    return Finding("python", ok, platform.python_version(), "" if ok else "Install Python 3.11 or newer.")


def _packages() -> Iterator[Finding]:
    for name in NEEDED:
        try:
            yield Finding("package", True, f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            yield Finding("package", False, f"{name} is missing", f"pip install {name}")


def _disk(settings: Settings) -> Finding:
    place = settings.home
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free // 10**6
    ok = free >= FREE_MB
    return Finding("disk", ok, f"{free} MB free at {settings.home}", "" if ok else "Free some space or set RETUNE_HOME elsewhere.")


def _sqlite() -> Finding:
    import sqlite3

    if wal_bug():
        return Finding("sqlite", True, f"{sqlite3.sqlite_version}: has the WAL-reset bug, so every commit takes one lock between "
                       "processes", "Nothing to do; a Python with SQLite 3.51.3 or newer needs no lock.")
    return Finding("sqlite", True, sqlite3.sqlite_version)


def _database(settings: Settings) -> Iterator[Finding]:
    try:
        store = Store(settings.database_url)
    except RetuneError as error:
        yield Finding("database", False, str(error), "Correct the setting database.")
        return
    if not store.path:
        yield from _server(store)
    elif not store.path.exists():
        yield Finding("database", True, f"{store.path} is made at the first start")
    elif problems := store.check():
        yield Finding("database", False, problems[0], "Move the file away or restore a backup; nothing is overwritten by itself.")
    else:
        yield Finding("database", True, "sound")


def _server(store: Store) -> Iterator[Finding]:
    """PostgreSQL: reachable, of a version that is mended, writable, with the newest tables, and durable."""
    try:
        said = store.server()
        problems = [] if said.empty else store.check()
        detail = f"PostgreSQL {said.version} at {store.name}"
        yield Finding("database", not problems, f"{detail}: {'; '.join(problems)}" if problems else
                      f"{detail}, whose tables are made at the first start" if said.empty else f"{detail} is sound",
                      "Do so, then look again." if problems else "")
        for doubt in said.doubts:
            yield Finding("durability", False, doubt, "In postgresql.conf, or for the role or the database by ALTER ... SET.")
    except RetuneError as error:
        yield Finding("database", False, str(error), "Start the server, or correct the setting database.")


def _models(settings: Settings) -> Iterator[Finding]:
    for name in (settings.encoder, settings.generator):
        found = models.find(name, settings)
        if found is None:
            yield Finding("model", False, f"{name} is not here yet", "Run `retune models`.")
            continue
        try:
            models.verify(found)
            yield Finding("model", True, f"{name} {found.fingerprint[:12]}")
        except (RetuneError, OSError) as error:
            yield Finding("model", False, str(error), f"Delete {found.path} and run `retune models`.")


def _bundles(settings: Settings) -> Iterator[Finding]:
    for name in shipped():
        try:
            domain = Domain.load(name)
            registry = Registry(domain, settings.home)
            for problem in registry.problems():
                yield Finding("audit", False, f"{name}: {problem}", f"Read `retune audit {name}` (it finishes what was cut short) "
                              f"and `retune versions {name}`; promote the version that you trust.")
            bundle = registry.get()
            bundle.verify()
            fits = bundle.manifest["prompt"] == prompt_hash(domain)
            yield Finding("bundle", fits, bundle.name, "" if fits else f"Run `retune train {name}`: the prompt has changed.")
        except RetuneError as error:
            yield Finding("bundle", False, str(error), f"Run `retune train {name}` or restore the folder.")


def examine_vllm(settings: Settings) -> Iterator[Finding]:
    """The server that writes the answers; nothing where none is wanted and none is installed."""
    from agent.vllm import install, running
    from agent.vllm.fleet import servers

    said = running.Running.read(settings.home)
    if settings.vllm:
        for server in servers(settings):
            ok = server.healthy()
            yield Finding("vllm", ok, f"{server.url} {'answers' if ok else 'does not answer'}",
                          "" if ok else "Start it, or correct the setting vllm.")
        return
    try:
        found = install.find(settings)
        remedy = f"Run `{found.python} -m pip uninstall {' '.join(found.breakers)}`." if found.breakers else ""
        beside = f", with {', '.join(found.breakers)}, which keep it from starting" if remedy else ""
        yield Finding("vllm", not remedy, f"{found.version} for {'the CPU' if found.cpu else 'GPUs'}{beside}", remedy)
    except RetuneError as error:
        if settings.served or settings.vllm_python:
            yield Finding("vllm", False, str(error), "Install it, or set engine to another one.")
    if said:
        ok = said.kept and running.healthy(said.address)
        state = "answers" if ok else "does not answer" if said.kept else "runs no longer, though its file says so"
        yield Finding("vllm", ok, f"the server at {said.url} {state}",
                      "" if ok else "Read `retune vllm logs`; then `retune vllm down` and `retune vllm up`.")
