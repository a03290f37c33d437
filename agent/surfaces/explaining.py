"""Commands that look back: `why` a turn went as it did, the `lineage` of a bundle, and `forget` a person. They only print."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agent.surfaces.options import DomainArgument, Home, Json, show

if TYPE_CHECKING:
    from agent.domain import Domain
    from agent.settings import Settings
    from agent.store import Store

app = typer.Typer()


@app.command()
def why(domain: DomainArgument,
        turn: Annotated[str, typer.Argument(help="Id of a turn; `last` is the domain's newest.")] = "last",
        as_json: Json = False, home: Home = None) -> None:
    """Explain a logged turn: scores, words that decided, nearest training rows, passages, tools, rules, bundle."""
    from agent.domain import Domain
    from tuning import explain

    loaded = Domain.load(domain)
    with _store(home) as (settings, store):
        table = explain.explain(loaded, settings, store, explain.last(loaded, store) if turn == "last" else turn)
    show(table, as_json, lambda: print("\n".join(explain.words(table))))


@app.command()
def lineage(domain: DomainArgument,
            version: Annotated[str, typer.Argument(help="A number, domain@0007 or an alias.")] = "champion",
            as_json: Json = False, home: Home = None) -> None:
    """List the rows that a bundle learned from people, by signal and author, and the bundles before it."""
    from agent.domain import Domain
    from tuning import lineage as room

    loaded = Domain.load(domain)
    with _store(home) as (settings, store):
        table = room.trace(loaded, settings, store, version)
    show(table, as_json, lambda: print("\n".join(room.words(table))))


@app.command()
def forget(author: Annotated[str, typer.Argument(help="The person's name, as it stands in feedback and sessions.")],
           domain: Annotated[list[str] | None, typer.Option(help="A folder of your own beside the shipped ones.")] = None,
           dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would go.")] = False,
           yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
           as_json: Json = False, home: Home = None) -> None:
    """Delete all that a person wrote and taught, and name the bundles that learned from them."""
    from tuning import forget as room

    asked = sys.stdin.isatty() and not as_json
    if not (dry_run or yes or asked):
        raise typer.BadParameter("what is deleted does not come back; say --yes, or look first with --dry-run")
    domains = _domains(domain or [])
    with _store(home) as (settings, store):
        if not (dry_run or yes):
            print("\n".join(room.words(room.forget(author, domains, settings, store, dry_run=True))))
            typer.confirm(f"Delete all of {author!r} for good?", abort=True)
        table = room.forget(author, domains, settings, store, dry_run)
    show(table, as_json, lambda: print("\n".join(room.words(table))))


@contextmanager
def _store(home: Path | None) -> "Iterator[tuple[Settings, Store]]":
    from agent.settings import Settings
    from agent.store import Store

    settings = Settings.load(home=home)
    store = Store(settings.database_url)
    store.open()
    try:
        yield settings, store
    finally:
        store.close()


def _domains(more: list[str]) -> "list[Domain]":
    """The shipped domains and those that were named; a named one takes the place of a shipped one."""
    from agent.domain import Domain, shipped

    return list({loaded.name: loaded for loaded in map(Domain.load, [*shipped(), *more])}.values())
