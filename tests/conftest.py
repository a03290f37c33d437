"""A home of its own for every test; the embedded models are fetched once and linked into it."""

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

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


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Store]:
    """An empty store in the test's folder."""
    with closing(Store(f"sqlite:///{tmp_path / 'retune.db'}")) as made:
        made.open()
        yield made
