"""`retune classify`: a file of messages, each with the intent that a domain's router gives it."""

import json
import sys
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated

import typer

from agent.surfaces.options import DomainArgument, Home

app = typer.Typer()


@app.command()
def classify(domain: DomainArgument,
             file: Annotated[Path, typer.Argument(help="JSON lines with \"text\", or a message a line; - is standard input.")],
             out: Annotated[Path | None, typer.Option(help="Where the rows go, as JSON lines; else standard output.")] = None,
             version: Annotated[str, typer.Option(help="Alias, number or domain@0007.")] = "champion", home: Home = None) -> None:
    """Intent, confidence and out-of-scope score of every message of a file, a row each. Exit 1 if some were no messages."""
    from agent.classify import classify as run
    from agent.domain import Domain
    from agent.errors import DataError
    from agent.registry import Registry
    from agent.router import Router
    from agent.serving import Bases
    from agent.settings import Settings
    from agent.surfaces.progress import model_bar
    from tuning.compare import Parts

    settings, loaded = Settings.load(home=home), Domain.load(domain)
    if str(file) != "-" and not file.is_file():
        raise DataError(f"{file} is no file; name one with a message a line, or - for standard input.")
    with model_bar() as watch:
        bases = Bases.ensure(settings, watch, generator=False)
    bundle = Registry(loaded, settings.home).get(version)
    bundle.verify()
    bundle.check_fits(loaded, bases.encoder, None)
    router, wrong = Router(Parts.of(bundle).router, bases.encoder), 0
    with _read(file, bundle.name) as lines, (out.open("w", encoding="utf-8") if out else nullcontext(sys.stdout)) as to:
        for row in run(lines, router, settings.max_message, settings.cores):
            wrong += "error" in row
            to.write(json.dumps(row, ensure_ascii=False) + "\n")
    if wrong:
        print(f"retune: {wrong} lines were no messages; their rows say why.", file=sys.stderr)
        raise typer.Exit(1)


def _read(file: Path, name: str) -> AbstractContextManager[Iterable[str]]:
    """The lines, with a bar of how much of the file is read where standard error is a terminal."""
    if str(file) == "-":
        return nullcontext(sys.stdin)
    from rich import progress
    from rich.console import Console

    console = Console(stderr=True)
    return progress.open(file, "r", encoding="utf-8", errors="replace", newline="\n", description=name, console=console,
                         disable=not console.is_terminal)
