"""A domain is a folder of data: read, checked, frozen. Imports no tool and no model; a mistake names file and remedy."""

import hashlib
import importlib.util
import json
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from agent import paths
from agent.errors import DomainError
from agent.types import Passage

ANSWERS = ("docs", "tool", "fixed", "handoff", "generate")
MCP = "mcp:"
"""What a tool of an MCP server begins with: `mcp:server/tool`, the server as `mcp.json` calls it."""
SLOT_KINDS = ("text", "money", "number", "percent", "years", "date", "time", "length", "mass", "expression")
_KEYS = {"name", "title", "persona", "languages", "unknown", "examples", "router", "intents", "ask", "guard",
         "encoder", "generator"}
_INTENT_KEYS = {"about", "answer", "tool", "slots", "reply"}
_GUARD_KEYS = {"numbers_need_source", "disclosure", "disclose_intents", "forbid"}
_ROUTER_KEYS = {"clarify_margin"}
_WANTED = {str: "a text in quotes", bool: "true or false", list: "a list of texts", dict: "a table", float: "a number"}


@dataclass(frozen=True, slots=True)
class Intent:
    """One thing that people want."""

    name: str
    about: str
    """Said when the agent asks back: "Is it about ...?"."""
    answer: str
    """docs, tool, fixed, handoff or generate."""
    tool: str = ""
    """module:function of a LangChain tool, or mcp:server/tool."""
    slots: tuple[tuple[str, str], ...] = ()
    """(name, kind) in the order in which they are asked for."""
    reply: str = ""
    """The words of a fixed answer or a hand-off."""
    optional: frozenset[str] = frozenset()
    """Slots whose kind ends in "?" in domain.toml: read when said, never asked for. A regex ends in "(X?)" instead."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What the guard holds each sentence to."""

    numbers_need_source: bool = True
    disclosure: str = ""
    disclose_intents: frozenset[str] = frozenset()
    forbid: tuple[str, ...] = ()


@dataclass(frozen=True)
class Domain:
    """A checked domain folder."""

    name: str
    title: str
    folder: Path
    persona: str
    languages: tuple[str, ...]
    unknown: str
    """The one sentence that says "not in my articles"; the generator is trained to say it."""
    examples: tuple[str, ...]
    clarify_margin: float
    intents: dict[str, Intent]
    ask: dict[str, str]
    rules: Rules
    passages: tuple[Passage, ...]

    @classmethod
    def load(cls, name: str | Path) -> Self:
        """Read a domain by the name of a shipped one or by folder; raises DomainError with the remedy."""
        from agent import domain_check  # it needs this room first

        folder = find(name)
        file = folder / "domain.toml"
        table = _toml(file)
        _refuse_unknown(table, _KEYS, file, "key")
        for key in ("name", "persona", "unknown", "intents"):
            if key not in table:
                raise DomainError(f"{file} lacks {key!r}; add it (see domains/_template).")
        entries = _value(table, "intents", {}, file)
        intents = {name: _intent(name, _value(entries, name, {}, f"{file}, [intents]"), folder) for name in entries}
        router, ask = _value(table, "router", {}, file), _value(table, "ask", {}, file)
        _refuse_unknown(router, _ROUTER_KEYS, file, "[router] key")
        domain = cls(
            name=_value(table, "name", "", file), title=_value(table, "title", table["name"], file), folder=folder,
            persona=_value(table, "persona", "", file), languages=tuple(_value(table, "languages", ["en"], file)),
            unknown=_value(table, "unknown", "", file), examples=tuple(_value(table, "examples", [], file)),
            clarify_margin=_value(router, "clarify_margin", 0.15, f"{file}, [router]"),
            intents=intents, ask={slot: _value(ask, slot, "", f"{file}, [ask]") for slot in ask},
            rules=_rules(_value(table, "guard", {}, file), intents, file), passages=_passages(folder),
        )
        domain_check.check(domain)
        return domain

    def rows(self, file: str) -> list[dict[str, Any]]:
        """Rows of a JSON-lines file of the domain, such as `intents.jsonl` or `eval/questions.jsonl`."""
        return read_rows(self.folder / file)

    @property
    def models(self) -> Path:
        """The starter bundle that ships with the domain."""
        return self.folder / "models"

    def grounded(self) -> list[dict[str, Any]]:
        """Rows of training that are answered from the articles, or cannot be: written dialogues, then bare questions."""
        rows = [row for row in self.rows("dialogues.jsonl") if not row.get("tool_result")]
        return rows + (self.rows("questions.jsonl") if (self.folder / "questions.jsonl").is_file() else [])

    def asked(self) -> list[tuple[str, str]]:
        """(question after the one before it, id of a passage that answers it), as many as training knows."""
        return [(asked_as(row.get("history", ()), row["question"]), key)
                for row in self.grounded() for key in row.get("evidence", ())]

    def data_hash(self, part: str) -> str:
        """sha256 over all that the training of `router` or `generator` reads; a bundle carries those it was made from."""
        digest = hashlib.sha256()
        names = ("intents.jsonl", "oos.jsonl") if part == "router" else ("dialogues.jsonl", "questions.jsonl", "knowledge/*.md")
        for file in (file for name in names for file in sorted(self.folder.glob(name))):
            digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
        return digest.hexdigest()


def asked_as(history: Sequence[str], question: str) -> str:
    """A follow-up as it is looked up: after the question before it. `history` alternates person, agent, ..."""
    return f"{history[-2]} {question}" if len(history) > 1 else question


def find(name: str | Path) -> Path:
    """The folder of a domain: a path, or the name of a shipped domain."""
    for folder in (Path(name).expanduser(), paths.DOMAINS / str(name)):
        if (folder / "domain.toml").is_file():
            return folder.resolve()
    raise DomainError(f"There is no domain {str(name)!r}; shipped domains: {', '.join(shipped())}. "
                      "A path to a folder with a domain.toml works too.")


def shipped() -> list[str]:
    """Names of the domains that come with Retune."""
    return sorted(file.parent.name for file in paths.DOMAINS.glob("*/domain.toml") if file.parent.name[0] != "_")


def read_rows(file: Path) -> list[dict[str, Any]]:
    """JSON lines as dictionaries; raises DomainError with the line number of the first bad one."""
    return [row for _, row in numbered_rows(file)]


def numbered_rows(file: Path) -> list[tuple[int, dict[str, Any]]]:
    """(line number, row) of JSON lines; empty lines count, and only "\\n" ends one, as a text may hold U+2028."""
    if not file.is_file():
        raise DomainError(f"{file} is missing; add it (JSON lines, see domains/_template).")
    rows = []
    for number, line in enumerate(_text(file).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise DomainError(f"{file}, line {number}: not valid JSON ({error.msg}); correct that line.") from error
        if not isinstance(row, dict):
            raise DomainError(f"{file}, line {number}: expected an object such as {{\"text\": ...}}; correct that line.")
        rows.append((number, row))
    return rows


def plain(text: str) -> str:
    """Lower case words alone, to compare rows; empty for a text of signs alone."""
    return " ".join(re.findall(r"\w+", text.lower()))


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DomainError(f"{file} is not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8.") from error


def _toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(_text(file))
    except tomllib.TOMLDecodeError as error:
        raise DomainError(f"{file} is not valid TOML: {error}; correct it there.") from error


def _value(table: dict[str, Any], key: str, default: Any, place: Path | str) -> Any:
    """The value of a key, of the default's type, or the default; another type is refused with what would do."""
    value, kind = table.get(key, default), type(default)
    fits = isinstance(value, int | float) and not isinstance(value, bool) if kind is float else isinstance(value, kind)
    if not fits or (kind is list and not all(isinstance(each, str) for each in value)):
        raise DomainError(f"{place}: {key} is {value!r}; it must be {_WANTED[kind]}.")
    return value


def _refuse_unknown(table: dict[str, Any], known: set[str], file: Path, what: str) -> None:
    if unknown := sorted(set(table) - known):
        raise DomainError(f"{file}: unknown {what} {unknown[0]!r}; known: {', '.join(sorted(known))}.")


def _intent(name: str, entry: dict[str, Any], folder: Path) -> Intent:
    file = folder / "domain.toml"
    place = f"{file}, [intents.{name}]"
    _refuse_unknown(entry, _INTENT_KEYS, file, f"key in [intents.{name}]")
    if entry.get("answer") not in ANSWERS:
        raise DomainError(f"{file}: [intents.{name}] needs answer = one of {', '.join(ANSWERS)}.")
    tool = entry.get("tool", "")
    if entry["answer"] == "tool" and not (isinstance(tool, str) and re.fullmatch(r"[\w.]+:\w+|mcp:[\w.-]+/\S+", tool)):
        raise DomainError(f"{file}: [intents.{name}] needs tool = \"module:function\", or \"mcp:server/tool\".")
    if entry["answer"] == "tool" and not tool.startswith(MCP) and not _exists(tool.partition(":")[0]):
        raise DomainError(f"{place}: there is no module {tool.partition(':')[0]!r}; correct tool or install the module.")
    reply = _value(entry, "reply", "", place)
    if entry["answer"] in ("fixed", "handoff") and not reply:
        raise DomainError(f"{file}: [intents.{name}] needs reply = \"the words to say\".")
    said = _value(entry, "slots", {}, place)
    slots = tuple((slot, _kind(name, slot, kind, folder)) for slot, kind in said.items())
    return Intent(name, _value(entry, "about", name.replace("_", " "), place), entry["answer"], tool, slots, reply,
                  frozenset(slot for slot, kind in said.items() if kind.endswith("?")))


def _exists(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # a package above it is missing
        return False


def _kind(intent: str, slot: str, kind: Any, folder: Path) -> str:
    """A slot's kind without the "?" of an optional one, its regex, options or table checked."""
    place = f"{folder / 'domain.toml'}: slot {slot!r} of {intent}"
    base, _, detail = kind.removesuffix("?").partition(":") if isinstance(kind, str) else ("", "", "")
    if base not in SLOT_KINDS and not (base in ("id", "choice", "name") and detail):
        raise DomainError(f"{place} has kind {kind!r}; use {', '.join(SLOT_KINDS)}, id:REGEX, choice:a|b or name:TABLE.")
    if base == "id":
        _regex(detail, place)
    if base == "name" and not (folder / "data" / f"{detail}.csv").is_file():
        raise DomainError(f"{place} reads names from {folder / 'data' / detail}.csv, which is missing; "
                          "add it with columns name and aliases.")
    return kind.removesuffix("?")


def _rules(guard: dict[str, Any], intents: dict[str, Intent], file: Path) -> Rules:
    _refuse_unknown(guard, _GUARD_KEYS, file, "[guard] key")
    place = f"{file}, [guard]"
    forbid, disclose = _value(guard, "forbid", [], place), _value(guard, "disclose_intents", [], place)
    for pattern in forbid:
        _regex(pattern, f"{place}: forbid")
    if unknown := [name for name in disclose if name not in intents]:
        raise DomainError(f"{place}: disclose_intents names {unknown[0]!r}, which is no intent; correct or remove it.")
    return Rules(_value(guard, "numbers_need_source", True, place), _value(guard, "disclosure", "", place),
                 frozenset(disclose), tuple(forbid))


def _regex(pattern: str, place: str) -> None:
    try:
        re.compile(pattern)
    except re.error as error:
        raise DomainError(f"{place} has the regular expression {pattern!r}, which is wrong ({error}); correct it.") from error


def _passages(folder: Path) -> tuple[Passage, ...]:
    found = []
    for file in sorted((folder / "knowledge").glob("*.md")):
        text = _text(file)
        parts = re.match(r"---\n(.*?)\n---\n(.*)", text, re.DOTALL)
        if not parts:
            raise DomainError(f"{file}: it must begin with a --- block that holds title: and source:.")
        head = dict(re.findall(r"^(\w+):\s*(.+?)\s*$", parts[1], re.MULTILINE))
        if not head.get("title") or not head.get("source"):
            raise DomainError(f"{file}: title: or source: is missing in the --- block; a fact needs its source.")
        intents = frozenset(filter(None, re.split(r"[,\s]+", head.get("intents", ""))))
        sections = re.split(r"^## +", parts[2], flags=re.MULTILINE)[1:]
        if not sections:
            raise DomainError(f"{file}: it has no section, so nothing in it is found; begin each with a line `## HEADING`.")
        for number, section in enumerate(sections, start=1):
            heading, _, body = section.partition("\n")
            found.append(Passage(id=f"{file.stem}#{number}", title=head["title"], heading=heading.strip(),
                                 text=" ".join(body.split()), source=head["source"], intents=intents))
    return tuple(found)
