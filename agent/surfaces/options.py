"""What every command shares: its arguments, printing as JSON or lines, and loading agents."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

DomainArgument = Annotated[str, typer.Argument(help="A shipped domain or a folder with a domain.toml.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Home = Annotated[Path | None, typer.Option(help="Where everything is kept (RETUNE_HOME).")]


def show(table: Any, as_json: bool, lines: Callable[[], None]) -> None:
    """JSON, or the lines for a person."""
    if as_json:
        print(json.dumps(table, indent=1, ensure_ascii=False))
    else:
        lines()


@contextmanager
def loader(home: Path | None, quiet: bool = False, follow: bool = False) -> Iterator[Any]:
    """A function name -> Agent that loads each domain once, with progress for base models.

    `follow`: they go over to what is promoted meanwhile, and say so on standard error. Traced where OTEL_* says so.
    """
    from agent import tracing
    from agent.agent import Agent
    from agent.surfaces.progress import model_bar

    loaded: dict[str, Agent] = {}
    end_tracing = tracing.start()

    def load(name: str) -> Agent:
        if name not in loaded:
            with model_bar(quiet) as watch:
                loaded[name] = Agent.load(name, home=home, watch=watch, follow=follow,
                                          on_notice=lambda said: print(f"retune: {said}", file=sys.stderr))
        return loaded[name]

    try:
        yield load
    finally:
        for agent in loaded.values():
            agent.close()
        end_tracing()


@contextmanager
def store_of(home: Path | None) -> Iterator[Any]:
    """The open store of a home, for a command that needs no agent."""
    from agent.settings import Settings
    from agent.store import Store

    store = Store(Settings.load(home=home).database_url)
    store.open()
    try:
        yield store
    finally:
        store.close()
