"""The commands `retune feedback`: say something about a turn, carry feedback in and out, list it. No rules of its own."""

import getpass
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.surfaces.options import DomainArgument, Home, Json, show, store_of

if TYPE_CHECKING:
    from tuning.exchange import Imported

app = typer.Typer(no_args_is_help=True, help="What people say about turns: add, import, export, list.")
FeedbackFile = Annotated[Path, typer.Argument(help="A .jsonl or .parquet file.")]
MOST = 20  # bad lines that are shown; --json has them all


@app.command()
def add(turn: Annotated[str, typer.Argument(help="Id of the turn; `retune ask --json` prints it.")],
        kind: Annotated[str, typer.Argument(help="up, down, correction, intent, none_of_these, comment or reply.")],
        value: Annotated[str | None, typer.Argument(help="The better answer, the intent, the comment or the reply.")] = None,
        author: Annotated[str | None, typer.Option(help="Who says so; without it the name you are logged in with.")] = None,
        domain: Annotated[str | None, typer.Option(help="The turn's domain, where it is a folder of your own.")] = None,
        as_json: Json = False, home: Home = None) -> None:
    """Say something about one turn; the opposite takes it back."""
    from agent import teaching
    from agent.domain import Domain

    who = getpass.getuser() if author is None else author
    with store_of(home) as store:
        logged = store.turn(turn)
        known = Domain.load(domain or logged["domain"]) if domain or (logged and kind == "intent") else None
        teaching.teach(store, turn, kind, who, value, domain=known and known.name, intents=known and known.intents)
        rows: list[dict[str, Any]] = store.feedback_of(turn)
    show(rows, as_json, lambda: print(f"Noted: {kind} by {who}."))


@app.command("import")
def import_(domain: DomainArgument, file: FeedbackFile,
            good: Annotated[bool, typer.Option("--good", help="Import the good rows and leave the bad lines out.")] = False,
            as_json: Json = False, home: Home = None) -> None:
    """Read feedback from a file; with a bad line nothing is imported and the good rows are kept aside."""
    from agent.domain import Domain
    from tuning.exchange import import_feedback

    with store_of(home) as store:
        report = import_feedback(store, Domain.load(domain), file, file.parent, good)
    for bad in report.bad[:MOST]:
        print(f"{file}, line {bad.line}: {bad.reason}", file=sys.stderr)
    if len(report.bad) > MOST:
        print(f"... and {len(report.bad) - MOST} more; --json lists them all.", file=sys.stderr)
    show(report.table(), as_json, lambda: print(_told(report, domain), file=sys.stderr if report.refused else sys.stdout))
    if report.refused:
        raise typer.Exit(1)


def _told(report: "Imported", domain: str) -> str:
    if not report.refused:
        counts = ", ".join(f"{count} {name}" for name, count in report.done.items())
        return counts + (f"; {report.forgotten} left out, as their authors asked to be forgotten." if report.forgotten else ".")
    said = f"Bad lines: {len(report.bad)}, so nothing was imported; correct them and import again."
    if report.kept_aside:
        said += (f" The {report.good} good rows are in {report.kept_aside}; to take them alone: "
                 f"`retune feedback import {domain} {report.file} --good`.")
    return said


@app.command()
def export(domain: DomainArgument, file: FeedbackFile, as_json: Json = False, home: Home = None) -> None:
    """Write all feedback on a domain's turns, each row with its turn, to a file."""
    from agent.domain import Domain
    from tuning.exchange import export_feedback

    with store_of(home) as store:
        count = export_feedback(store, Domain.load(domain), file)
    show({"file": str(file), "rows": count}, as_json, lambda: print(f"{count} rows are in {file}."))


@app.command("list")
def list_(domain: DomainArgument, limit: Annotated[int, typer.Option(min=1, help="The newest so many.")] = 50,
          as_json: Json = False, home: Home = None) -> None:
    """List what was said about a domain's turns, oldest first."""
    from agent.domain import Domain
    from tuning.exchange import taught

    with store_of(home) as store:
        rows = taught(store, Domain.load(domain).name, limit)
    show(rows, as_json, lambda: print("\n".join(
        f"{row['created'][:19]}  {row['turn']}  {row['author']}: {row['kind']} {row['value'] or ''}".rstrip() +
        f"\n    {row['question']}" for row in rows) or "Nobody has said anything yet; `retune feedback add` is a beginning."))
