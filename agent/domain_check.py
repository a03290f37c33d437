"""What a domain's rows owe each other: known labels, evidence that is there, nothing in training and evaluation at once.

Reads each file of rows once. The values of domain.toml and the articles are checked by `domain` as it reads them.
"""

from pathlib import Path
from typing import Any

from agent.domain import Domain, numbered_rows, plain
from agent.errors import DomainError

Rows = list[tuple[int, dict[str, Any]]]
_QUESTION: dict[str, tuple[type, str]] = {"id": (str, "a text"), "question": (str, "a text")}
_ANSWERED = _QUESTION | {"answerable": (bool, "true or false"), "must_say": (list, "a list of texts")}


def check(domain: Domain) -> None:
    """Raise DomainError with file, line and remedy for the first thing that would surprise someone later."""
    folder = domain.folder
    for intent in domain.intents.values():
        for slot, _ in intent.slots:
            if slot not in domain.ask and slot not in intent.optional:
                raise DomainError(f"{folder / 'domain.toml'}: [ask] lacks a question for slot {slot!r}; add one.")
    rows = labelled(folder / "intents.jsonl", domain)
    used = {row["intent"] for _, row in rows}
    if empty := [name for name in domain.intents if name not in used]:
        raise DomainError(f"{folder / 'intents.jsonl'}: intent {empty[0]!r} has no examples; "
                          "write some or remove it from domain.toml.")
    trained = {words(row["text"]) for _, row in (*rows, *texts(folder / "oos.jsonl"))}
    trained |= {words(row["question"]) for _, row in answered(folder / "dialogues.jsonl", domain)}
    if (file := folder / "questions.jsonl").is_file():
        trained |= {words(row["question"]) for _, row in questions(file, domain)}
    if (file := folder / "eval" / "intents.jsonl").is_file():
        refuse_shared(file, labelled(file, domain), "text", trained)
    if (file := folder / "eval" / "oos.jsonl").is_file():
        refuse_shared(file, texts(file), "text", trained)
    if (file := folder / "eval" / "questions.jsonl").is_file():
        refuse_shared(file, answered(file, domain), "question", trained)
    if (file := folder / "eval" / "safety.jsonl").is_file():
        refuse_shared(file, guarded(file, domain), "text", trained)


def words(text: str) -> str:
    """What makes two rows the same: their words, or their signs where there are no words."""
    return plain(text) or text.strip()


def texts(file: Path) -> Rows:
    """Rows with a text."""
    rows = numbered_rows(file)
    for number, row in rows:
        if not isinstance(row.get("text"), str):
            raise DomainError(f"{file}, line {number}: needs text, got {row.get('text')!r}; correct that line.")
    return rows


def labelled(file: Path, domain: Domain) -> Rows:
    """Rows with a text and an intent of the domain."""
    rows = texts(file)
    for number, row in rows:
        if not isinstance(row.get("intent"), str) or row["intent"] not in domain.intents:
            raise DomainError(f"{file}, line {number}: needs an intent of domain.toml, got {row.get('intent')!r}; "
                              "correct that line.")
    return rows


def guarded(file: Path, domain: Domain) -> Rows:
    """Rows with a text and the intents that it must never be sent to; without them, to nothing but a person."""
    rows = texts(file)
    for number, row in rows:
        never = row.get("never", [])
        if not isinstance(never, list) or (unknown := [name for name in never if name not in domain.intents]):
            said = repr(unknown[0]) if isinstance(never, list) else repr(never)
            raise DomainError(f"{file}, line {number}: never must list intents of domain.toml, got {said}; correct that line.")
    return rows


def questions(file: Path, domain: Domain, needed: dict[str, tuple[type, str]] = _QUESTION) -> Rows:
    """Questions with the passages that answer them; none where no passage does."""
    rows, known = numbered_rows(file), {passage.id for passage in domain.passages}
    for number, row in rows:
        place = f"{file}, line {number} (row {row.get('id')})"
        for key, (kind, said) in needed.items():
            if not isinstance(row.get(key), kind):
                raise DomainError(f"{place}: needs {key}, {said}, got {row.get(key)!r}; correct that line.")
        for key in ("must_say", "evidence", "history"):
            if not isinstance(row.get(key, []), list) or not all(isinstance(each, str) for each in row.get(key, [])):
                raise DomainError(f"{place}: {key} must be a list of texts, got {row[key]!r}; correct that line.")
        if missing := set(row.get("evidence", [])) - known:
            raise DomainError(f"{place}: there is no passage {min(missing)!r}; correct evidence or write the article.")
    return rows


def answered(file: Path, domain: Domain) -> Rows:
    """Questions with a written answer and what an answer must say."""
    rows = questions(file, domain, _ANSWERED)
    for number, row in rows:
        if row["answerable"] and not (isinstance(row.get("answer"), str) and row["answer"].strip()):
            raise DomainError(f"{file}, line {number} (row {row.get('id')}): is answerable and has no answer; "
                              "write one or set answerable to false.")
    return rows


def refuse_shared(file: Path, rows: Rows, key: str, trained: set[str]) -> None:
    """Raise DomainError for a row of evaluation that is trained on."""
    for number, row in rows:
        if (said := words(row[key])) in trained:
            raise DomainError(f"{file}, line {number}: {said!r} stands in training too; remove it from one of them.")
