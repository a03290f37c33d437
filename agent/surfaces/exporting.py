"""Conversations out of the database: the commands `sessions`, `search` and `export`, and a conversation as Markdown.

Knows how a conversation reads on paper; what is in it is the store's business. Control characters never come out.
"""

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.signs import harmless
from agent.surfaces.options import Home, Json, show, store_of

if TYPE_CHECKING:
    from agent.domain import Domain
    from agent.store import Store

app = typer.Typer()
LONGEST = 80
"""Characters of a first question that stands for a title."""
OURS = "---\nsession: "
"""How every export begins; a file that begins otherwise is never replaced."""
DomainOption = Annotated[str | None, typer.Option(help="Of this domain alone.")]
Limit = Annotated[int, typer.Option(min=1, help="So many at most.")]


def to_markdown(store: "Store", session: str, domain: "Domain | None" = None) -> str:
    """The conversation with YAML front matter; marks stand for private values, as in the database.

    Front matter: session, domain, title, bundles, engines, created, turns, exported. `domain` gives sources their titles
    and addresses, else they are ids. `last` is the newest session. DataError for one that is not there.
    """
    row = _row(store, session)
    turns = store.conversation(row["id"])
    passages = {each.id: each for each in domain.passages} if domain else {}
    front = {"session": row["id"], "domain": row["domain"], "title": title(row),
             "bundles": list(dict.fromkeys(each["bundle"] for each in turns)),
             "engines": list(dict.fromkeys(each["engine"] for each in turns if each["engine"])), "created": row["created"],
             "turns": len(turns), "exported": datetime.now(UTC).isoformat(timespec="seconds")}
    # JSON is YAML, and a text cannot leave its quotes
    lines = ["---", *(f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in front.items()), "---", "",
             f"# {front['title'] or 'A conversation'}"]
    for number, turn in enumerate(turns, 1):
        lines += ["", f"## {number}. {turn['created'][:16].replace('T', ' ')} UTC", "", _quoted(turn["question"]), "",
                  turn["reply"] or "(no answer)", "", *_made(turn), *_sources(turn["passages"], passages),
                  *_said(turn["feedback"])]
    return harmless("\n".join(lines).rstrip() + "\n")


def write_markdown(store: "Store", session: str, file: Path, domain: "Domain | None" = None) -> int:
    """Write `to_markdown` whole to the file and return the bytes; DataError if it cannot be or holds something else."""
    from agent.errors import DataError

    text = to_markdown(store, session, domain).encode("utf-8")
    fresh = file.with_name(f".{file.name}.new")
    try:
        if file.exists() and not file.read_bytes().startswith(OURS.encode()):
            raise DataError(f"{file} is no conversation that was exported before; choose another name.")
        fresh.write_bytes(text)
        os.replace(fresh, file)
    except OSError as error:
        raise DataError(f"{file} cannot be written ({error.strerror}); choose another place.") from error
    return len(text)


def title(row: dict[str, Any]) -> str:
    """What a session of `Store.sessions` is called: its title, else the beginning of its first question; one line."""
    said = " ".join(harmless(row["title"] or row["first"]).split())
    return said if row["title"] or len(said) <= LONGEST else f"{said[:LONGEST].rstrip()}…"


@app.command()
def sessions(domain: DomainOption = None, limit: Limit = 20,
             archived: Annotated[bool, typer.Option("--archived", help="Those that were laid away too.")] = False,
             as_json: Json = False, home: Home = None) -> None:
    """List conversations, the newest first."""
    with store_of(home) as store:
        rows = store.sessions(domain, limit, archived)
    show(rows, as_json, lambda: print("\n".join(
        f"{row['updated'][:16].replace('T', ' ')}  {row['id']}  {row['domain']}  {_turns(row['turns'])}  {title(row)}"
        f"{'  (archived)' if row['archived'] else ''}".rstrip() for row in rows) or "There is no conversation yet."))


@app.command()
def search(words: Annotated[list[str], typer.Argument(help="Words that question and answer have together.")],
           domain: DomainOption = None, limit: Limit = 20, as_json: Json = False, home: Home = None) -> None:
    """Find words in all conversations, the best first; in any language, parts of words too."""
    with store_of(home) as store:
        rows = store.search(" ".join(words), domain, limit)
    show(rows, as_json, lambda: print("\n".join(
        f"{row['created'][:16].replace('T', ' ')}  {row['session']}  {row['domain']}  {harmless(row['title'])}".rstrip() +
        f"\n    {harmless(row['snippet'])}" for row in rows) or "No question and answer have all of these words; use fewer."))


@app.command()
def export(session: Annotated[str, typer.Argument(help="Id of a session; `last` is the newest.")] = "last",
           to: Annotated[Path | None, typer.Option(help="A file to write; without it the Markdown is printed.")] = None,
           domain: Annotated[str | None, typer.Option(help="The session's domain, where it is a folder of your own.")] = None,
           as_json: Json = False, home: Home = None) -> None:
    """Write a conversation as Markdown with front matter."""
    from agent.domain import Domain, shipped

    with store_of(home) as store:
        row = _row(store, session)
        known = domain or (row["domain"] if row["domain"] in shipped() else None)
        loaded = Domain.load(known) if known else None
        if to is None:
            text = to_markdown(store, row["id"], loaded)
            show({"session": row["id"], "markdown": text}, as_json, lambda: print(text, end=""))
        else:
            size = write_markdown(store, row["id"], to, loaded)
            show({"session": row["id"], "file": str(to), "bytes": size}, as_json,
                 lambda: print(f"{row['id']} ({_turns(row['turns'])}) is in {to}."))


def _row(store: "Store", session: str) -> dict[str, Any]:
    from agent.conversations import unknown_session
    from agent.errors import DataError

    if not (found := store.sessions(limit=1) if session == "last" else store.sessions(id=session)):
        raise DataError("There is no conversation yet; `retune chat` begins one." if session == "last" else
                        unknown_session(session))
    return found[0]


def _made(turn: dict[str, Any]) -> list[str]:
    """One line: what the turn was about, what became of it, and what served it."""
    parts = [turn["intent"], turn["state"], turn["bundle"], turn["engine"], *turn["flags"]]
    lines = [f"*{' · '.join(part for part in parts if part)}*", ""]
    return [*lines, f"It failed: {turn['error']}", ""] if turn["error"] else lines


def _sources(ids: list[str], passages: dict[str, Any]) -> list[str]:
    known = [(id, passages.get(id)) for id in ids]
    listed = [f"- {each.title}, {each.heading}: {each.source} ({id})" if each else f"- {id}" for id, each in known]
    return ["Sources:", "", *listed, ""] if listed else []


def _said(feedback: list[dict[str, Any]]) -> list[str]:
    """Replies of people after a hand-off first, as part of the talk; then what was taught."""
    lines = []
    for each in feedback:
        if each["kind"] == "reply":
            lines += [f"**{each['author']}**, whom this was handed off to:", "", _quoted(each["value"]), ""]
    taught = [each for each in feedback if each["kind"] != "reply"]
    lines += ["Feedback:", ""] if taught else []
    for each in taught:
        lines.append(f"- {each['author']}: {each['kind'].replace('_', ' ')}")
        lines += ["", _quoted(each["value"], "  > "), ""] if each["value"] else []
    return lines + [""] if taught else lines


def _quoted(text: str, mark: str = "> ") -> str:
    return "\n".join(f"{mark}{line}".rstrip() for line in text.split("\n"))


def _turns(count: int) -> str:
    return f"{count} turn{'' if count == 1 else 's'}"
