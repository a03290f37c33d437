"""A home of its own for every test; the embedded models are fetched once and linked into it."""

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import postgres
import pytest

from agent import paths
from agent.settings import Settings
from agent.store import Store

MODELS = paths.models(paths.default_home())  # of the person who runs the tests, before RETUNE_HOME moves


@pytest.fixture(autouse=True)
def home(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home of the test's own."""
    place = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("RETUNE_HOME", str(place))
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    monkeypatch.chdir(tmp_path)
    return place


@pytest.fixture(scope="session")
def real_models() -> Path:
    """The folder with the embedded base models, fetched and converted if this is the first run."""
    from agent.models import ensure

    settings = Settings.load(home=MODELS.parent)
    for name in (settings.encoder, settings.generator):
        ensure(name, settings)
    return MODELS


@pytest.fixture(scope="session")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache of vectors for all tests: thousands of questions are embedded once."""
    return tmp_path_factory.mktemp("index")


@pytest.fixture
def settings(home: Path, real_models: Path, index: Path) -> Settings:
    """Settings of a home that holds the embedded models."""
    os.symlink(real_models, home / "models", target_is_directory=True)
    os.symlink(index, home / "index", target_is_directory=True)
    return Settings.load(home=home)


@pytest.fixture(scope="session")
def server() -> Iterator[postgres.Server]:
    """A PostgreSQL server that is this process's own."""
    if (programs := postgres.find()) is None:
        pytest.skip(postgres.MISSING)
    made = postgres.Server(programs)
    yield made
    made.remove()


@pytest.fixture
def sqlite_db(tmp_path: Path) -> Iterator[Store]:
    """An empty store in a file in the test's folder."""
    with closing(Store(f"sqlite:///{tmp_path / 'retune.db'}")) as made:
        made.open()
        yield made


@pytest.fixture
def postgres_db(server: postgres.Server) -> Iterator[Store]:
    """An empty store on PostgreSQL."""
    with closing(Store(server.empty())) as made:
        made.open()
        yield made


@pytest.fixture(params=["sqlite", "postgresql"])
def db(request: pytest.FixtureRequest) -> Store:
    """An empty store, once in each kind of database."""
    return request.getfixturevalue("sqlite_db" if request.param == "sqlite" else "postgres_db")


@pytest.fixture(params=["sqlite", "postgresql"])
def new_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database without a table, once of each kind; SQLite's file is not there yet."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'retune.db'}"
    server = request.getfixturevalue("server")
    return server.url(server.create())
