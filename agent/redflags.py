"""Escalation by rule, before any model.

This room knows regexes and one way of reading a message; it does not know what happens after a flag, and it never
asks a model. The rules live in ``domains/<d>/redflags.toml``:

    [[flag]]
    name    = "chest_pain"
    message = "Call 112 or 911 now."
    any     = ["chest (pain|tight)"]   # one of these must match
    all     = ["now|sudden"]           # optional: every one of these as well
    unless  = ["last year"]            # optional: one of these stops the flag
"""

from __future__ import annotations

import re
import tomllib
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Straight apostrophes are removed, not kept: people type "cant", "can't" and "can’t" for the same word.
# The accents are translated before NFKC, which would make a space and a combining mark of them.
_QUOTES = str.maketrans(dict.fromkeys("'’‘‛ʼ`´′＇", "") | dict.fromkeys("“”„‟«»＂", '"'))
# Invisible characters that split a word for a regex but not for a reader.
_INVISIBLE = re.compile("[\u00ad\u034f\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufe00-\ufe0f\ufeff]")
_STRETCHED = re.compile(r"([^\W\d_])\1{2,}")
_SPACE = re.compile(r"\s+")
# An apostrophe that a rule insists on can never match, because the text has none; "can'?t" is fine.
_DEAD_APOSTROPHE = re.compile(r"['’](?![^\[]*\]|[?*]|\{0)|\[['’`]+\](?![?*]|\{0)")
_KEYS = {"name", "message", "any", "all", "unless"}


class RedFlagError(ValueError):
    """A rule file that cannot be used; the text names the file, the flag and what to write instead."""

    def __init__(self, path: Path, flag: str, problem: str, remedy: str) -> None:
        super().__init__(f"{path}: {flag}: {problem}. {remedy}")


@dataclass(frozen=True)
class RedFlag:
    """What a message raised: the rule's name (for the log) and the words to show instead of an answer."""

    name: str
    message: str


@dataclass(frozen=True)
class _Rule:
    flag: RedFlag
    any: tuple[re.Pattern[str], ...]
    all: tuple[re.Pattern[str], ...]
    unless: tuple[re.Pattern[str], ...]

    def matches(self, text: str) -> bool:
        return (
            any(pattern.search(text) for pattern in self.any)
            and all(pattern.search(text) for pattern in self.all)
            and not any(pattern.search(text) for pattern in self.unless)
        )


@dataclass(frozen=True)
class RedFlags:
    """The rules of one domain, in file order."""

    rules: tuple[_Rule, ...] = ()

    def check(self, text: str) -> RedFlag | None:
        """Return the first flag, in file order, that `text` raises; None when it raises none."""
        plain = normalise(text)
        return next((rule.flag for rule in self.rules if rule.matches(plain)), None)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the flags, in file order."""
        return tuple(rule.flag.name for rule in self.rules)


def normalise(text: str) -> str:
    """Return the text that rules are matched on.

    NFKC, lower case, straight double quotes, no apostrophes, no zero-width characters, single spaces, and
    no letter more than twice in a row ("helllllp" is "hellp").
    """
    text = unicodedata.normalize("NFKC", text.translate(_QUOTES)).lower().translate(_QUOTES)
    text = _STRETCHED.sub(r"\1\1", _INVISIBLE.sub("", text))
    return _SPACE.sub(" ", text).strip()


def load(path: str | Path) -> RedFlags:
    """Read a redflags.toml.

    Raises RedFlagError for a file that cannot be read, an unknown key, a bad regex, a missing or repeated name,
    or a missing message; the file's order is kept. A file without flags gives rules that never fire.
    """
    path = Path(path)
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RedFlagError(path, "file", f"cannot be read ({error.strerror})", "Put a redflags.toml there") from error
    except ValueError as error:  # tomllib.TOMLDecodeError and UnicodeDecodeError both are
        raise RedFlagError(path, "file", f"is not TOML ({error})", "Correct that line") from error
    flags = table.pop("flag", [])
    if table:
        raise RedFlagError(path, "file", f"unknown key {min(table)!r}", "Only [[flag]] tables belong here")
    if not isinstance(flags, list) or not all(isinstance(row, dict) for row in flags):
        raise RedFlagError(path, "file", "'flag' is not a list of tables", "Write [[flag]] with two brackets")
    rules: dict[str, _Rule] = {}
    for number, row in enumerate(flags, start=1):
        rule = _rule(path, number, row)
        if rule.flag.name in rules:
            raise RedFlagError(path, f"flag {rule.flag.name!r}", "the name is used twice", "Rename one of them")
        rules[rule.flag.name] = rule
    return RedFlags(tuple(rules.values()))


def _rule(path: Path, number: int, row: dict[str, Any]) -> _Rule:
    name = row.get("name")
    where = f"flag {name!r}" if isinstance(name, str) and name.strip() else f"flag number {number}"
    if unknown := sorted(set(row) - _KEYS):
        raise RedFlagError(path, where, f"unknown key {unknown[0]!r}", f"Use only {', '.join(sorted(_KEYS))}")
    for key in ("name", "message"):
        if not isinstance(row.get(key), str) or not row[key].strip():
            raise RedFlagError(path, where, f"no {key}", f'Add {key} = "..."')
    if not row.get("any"):
        raise RedFlagError(path, where, "no rule in 'any'", 'Add any = ["a regex"]')
    patterns = {key: _patterns(path, where, key, row.get(key, [])) for key in ("any", "all", "unless")}
    return _Rule(RedFlag(row["name"].strip(), row["message"].strip()), **patterns)


def _patterns(path: Path, where: str, key: str, sources: Any) -> tuple[re.Pattern[str], ...]:
    if not isinstance(sources, list) or not all(isinstance(source, str) and source for source in sources):
        raise RedFlagError(path, where, f"{key!r} is not a list of regexes", f'Write {key} = ["a regex", "another"]')
    found = []
    for source in sources:
        if _DEAD_APOSTROPHE.search(source):
            raise RedFlagError(
                path, where, f"{source!r} asks for an apostrophe, and rules see none", "Write cant, not can't"
            )
        try:
            pattern = re.compile(source, re.IGNORECASE)
        except re.error as error:
            raise RedFlagError(path, where, f"bad regex {source!r} ({error})", "Correct the regex") from error
        if pattern.search(""):  # "a|" or ".*" would flag, or silence, every message
            raise RedFlagError(path, where, f"{source!r} matches an empty message", "Make it ask for a word")
        found.append(pattern)
    return tuple(found)
