"""A domain is a folder of data: read, checked, frozen. Imports no tool and no model; a mistake names file and remedy."""

import hashlib
import json
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from agent import paths
from agent.errors import DomainError
from agent.types import Passage

ANSWERS = ("docs", "tool", "fixed", "handoff", "generate")
SLOT_KINDS = ("text", "money", "number", "percent", "years", "date", "time", "length", "mass", "expression")
_KEYS = {"name", "title", "persona", "languages", "unknown", "examples", "router", "intents", "ask", "guard",
         "encoder", "generator"}
_INTENT_KEYS = {"about", "answer", "tool", "slots", "reply"}
_GUARD_KEYS = {"numbers_need_source", "disclosure", "disclose_intents", "forbid"}


@dataclass(frozen=True, slots=True)
class Intent:
    """One thing that people want."""

    name: str
    about: str
    """Said when the agent asks back: "Is it about ...?"."""
    answer: str
    """docs, tool, fixed, handoff or generate."""
    tool: str = ""
    """module:function of a LangChain tool."""
    slots: tuple[tuple[str, str], ...] = ()
    """(name, kind) in the order in which they are asked for."""
    reply: str = ""
    """The words of a fixed answer or a hand-off."""


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
        folder = find(name)
        table = _toml(folder / "domain.toml")
        _refuse_unknown(table, _KEYS, folder / "domain.toml", "key")
        for key in ("name", "persona", "unknown", "intents"):
            if key not in table:
                raise DomainError(f"{folder / 'domain.toml'} lacks {key!r}; add it (see domains/_template).")
        intents = {name: _intent(name, entry, folder) for name, entry in table["intents"].items()}
        guard = table.get("guard", {})
        _refuse_unknown(guard, _GUARD_KEYS, folder / "domain.toml", "[guard] key")
        domain = cls(
            name=table["name"], title=table.get("title", table["name"]), folder=folder, persona=table["persona"],
            languages=tuple(table.get("languages", ["en"])), unknown=table["unknown"],
            examples=tuple(table.get("examples", ())),
            clarify_margin=float(table.get("router", {}).get("clarify_margin", 0.15)),
            intents=intents, ask=table.get("ask", {}),
            rules=Rules(guard.get("numbers_need_source", True), guard.get("disclosure", ""),
                        frozenset(guard.get("disclose_intents", ())), tuple(guard.get("forbid", ()))),
            passages=_passages(folder),
        )
        _check(domain)
        return domain

    def rows(self, file: str) -> list[dict[str, Any]]:
        """Rows of a JSON-lines file of the domain, such as `intents.jsonl` or `eval/questions.jsonl`."""
        return read_rows(self.folder / file)

    @property
    def models(self) -> Path:
        """The starter bundle that ships with the domain."""
        return self.folder / "models"

    def data_hash(self) -> str:
        """sha256 over all that training reads; a bundle made from other data carries another hash."""
        digest = hashlib.sha256()
        files = [self.folder / name for name in ("intents.jsonl", "oos.jsonl", "dialogues.jsonl")]
        for file in [*files, *sorted((self.folder / "knowledge").glob("*.md"))]:
            digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
        return digest.hexdigest()


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
    if not file.is_file():
        raise DomainError(f"{file} is missing; add it (JSON lines, see domains/_template).")
    rows = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise DomainError(f"{file}, line {number}: not valid JSON ({error.msg}); correct that line.") from error
        if not isinstance(row, dict):
            raise DomainError(f"{file}, line {number}: expected an object such as {{\"text\": ...}}; correct that line.")
        rows.append(row)
    return rows


def _toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DomainError(f"{file} is not valid TOML: {error}.") from error


def _refuse_unknown(table: dict[str, Any], known: set[str], file: Path, what: str) -> None:
    if unknown := sorted(set(table) - known):
        raise DomainError(f"{file}: unknown {what} {unknown[0]!r}; known: {', '.join(sorted(known))}.")


def _intent(name: str, entry: dict[str, Any], folder: Path) -> Intent:
    file = folder / "domain.toml"
    _refuse_unknown(entry, _INTENT_KEYS, file, f"key in [intents.{name}]")
    if entry.get("answer") not in ANSWERS:
        raise DomainError(f"{file}: [intents.{name}] needs answer = one of {', '.join(ANSWERS)}.")
    if entry["answer"] == "tool" and not re.fullmatch(r"[\w.]+:\w+", entry.get("tool", "")):
        raise DomainError(f"{file}: [intents.{name}] needs tool = \"module:function\".")
    if entry["answer"] in ("fixed", "handoff") and not entry.get("reply"):
        raise DomainError(f"{file}: [intents.{name}] needs reply = \"the words to say\".")
    for slot, kind in entry.get("slots", {}).items():
        base = kind.partition(":")[0]
        if base not in SLOT_KINDS + ("id", "choice", "name"):
            raise DomainError(f"{file}: slot {slot!r} of {name} has kind {kind!r}; "
                              f"use {', '.join(SLOT_KINDS)}, id:REGEX, choice:a|b or name:TABLE.")
    return Intent(name, entry.get("about", name.replace("_", " ")), entry["answer"], entry.get("tool", ""),
                  tuple(entry.get("slots", {}).items()), entry.get("reply", ""))


def _passages(folder: Path) -> tuple[Passage, ...]:
    found = []
    for file in sorted((folder / "knowledge").glob("*.md")):
        text = file.read_text(encoding="utf-8")
        parts = re.match(r"---\n(.*?)\n---\n(.*)", text, re.DOTALL)
        if not parts:
            raise DomainError(f"{file}: it must begin with a --- block that holds title: and source:.")
        head = dict(re.findall(r"^(\w+):\s*(.+?)\s*$", parts[1], re.MULTILINE))
        if not head.get("title") or not head.get("source"):
            raise DomainError(f"{file}: title: or source: is missing in the --- block; a fact needs its source.")
        intents = frozenset(filter(None, re.split(r"[,\s]+", head.get("intents", ""))))
        sections = re.split(r"^## +", parts[2], flags=re.MULTILINE)[1:]
        for number, section in enumerate(sections, start=1):
            heading, _, body = section.partition("\n")
            found.append(Passage(id=f"{file.stem}#{number}", title=head["title"], heading=heading.strip(),
                                 text=" ".join(body.split()), source=head["source"], intents=intents))
    return tuple(found)


def _check(domain: Domain) -> None:
    """What would surprise someone later: intents without examples, rows in training and evaluation at once."""
    file = domain.folder / "intents.jsonl"
    rows = read_rows(file)
    counts = dict.fromkeys(domain.intents, 0)
    for number, row in enumerate(rows, start=1):
        if not isinstance(row.get("text"), str) or row.get("intent") not in counts:
            raise DomainError(f"{file}, line {number}: needs text and an intent of domain.toml, got {row.get('intent')!r}.")
        counts[row["intent"]] += 1
    if empty := [name for name, count in counts.items() if not count]:
        raise DomainError(f"{file}: intent {empty[0]!r} has no examples; write some or remove it from domain.toml.")
    held_out = domain.folder / "eval" / "intents.jsonl"
    if held_out.is_file():
        shared = {plain(row["text"]) for row in rows} & {plain(row["text"]) for row in read_rows(held_out)}
        if shared:
            raise DomainError(f"{held_out}: {min(shared)!r} stands in training too; remove it from one of them.")
    for slot in {slot for intent in domain.intents.values() for slot, _ in intent.slots}:
        if slot not in domain.ask:
            raise DomainError(f"{domain.folder / 'domain.toml'}: [ask] lacks a question for slot {slot!r}.")
    known = {passage.id for passage in domain.passages}
    for row in read_rows(domain.folder / "dialogues.jsonl"):
        if missing := set(row.get("evidence", ())) - known:
            raise DomainError(f"{domain.folder / 'dialogues.jsonl'}, row {row.get('id')}: no passage {min(missing)!r}.")


def plain(text: str) -> str:
    """Lower case words alone, to compare rows."""
    return " ".join(re.findall(r"\w+", text.lower()))
