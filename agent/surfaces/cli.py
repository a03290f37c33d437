"""The command `retune`: each command is a few lines that call one room and print. Exit 0 done, 1 refused, 2 usage."""

import getpass
import os
import sys
from itertools import chain
from pathlib import Path
from typing import Annotated

import typer

from agent.errors import RetuneError
from agent.surfaces import (
    classifying,
    explaining,
    exporting,
    feedback,
    figures,
    keeping,
    keys,
    learning,
    mcp,
    review,
    schedule,
    serve,
    vllm,
)
from agent.surfaces.options import DomainArgument, Home, Json, loader, show

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False,
                  help="Domain agents whose models are tuned, and keep being tuned, from their own conversations.")
bench = typer.Typer(no_args_is_help=True, help="Measure parts on data of your own.")
app.add_typer(bench, name="bench")
app.add_typer(feedback.app, name="feedback")
app.add_typer(vllm.app, name="vllm")
app.add_typer(keys.app, name="keys")
for room in (keeping, learning, review, explaining, exporting, schedule, figures, mcp, serve, classifying):
    app.add_typer(room.app)


def main() -> None:
    """Entry point: quiet libraries, and errors that a person can act on as one sentence."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        app()
    except RetuneError as error:
        print(f"retune: {error}", file=sys.stderr)
        sys.exit(1)
    except ValueError as error:
        if type(error).__module__.startswith("agent."):
            print(f"retune: {error}", file=sys.stderr)
            sys.exit(1)
        raise


@app.command()
def chat(domain: Annotated[str | None, typer.Argument(help="One domain; without it all shipped ones, picked by the message.")] = None,
         examples: Annotated[bool, typer.Option(help="Ask each domain's example questions, then leave.")] = False,
         plain: Annotated[bool, typer.Option("--plain", help="Lines instead of a screen, as a screen reader wants.")] = False,
         home: Home = None) -> None:
    """Chat in the terminal, on a screen of its own; with --plain in lines; from a pipe, one question a line."""
    if not (plain or examples) and all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr)):
        from agent.surfaces.tui.opening import open_app

        return open_app(domain, home)
    from agent.domain import Domain, shipped
    from agent.surfaces import chat as room

    with loader(home, follow=True) as load:
        piped = None if sys.stdin.isatty() else (line for line in sys.stdin if line.strip())  # as they come: a pipe may stay open
        first = next(piped, None) if piped is not None else None
        if examples or (piped is not None and first is None):
            piped = iter([line for name in shipped() for line in (f"/domain {name}", *Domain.load(name).examples)])
        elif first is not None:
            piped = chain([first], piped)
        talk = room.Chat(load, [domain] if domain else shipped(), getpass.getuser(), room.write)
        if piped is None:
            titles = ", ".join(agent.domain.title for agent in talk.front.agents.values())
            room.write(f"{titles}: ask away; /help shows what else you can do.\n")
        room.run(talk, piped)


@app.command()
def ask(domain: DomainArgument, text: str, session: Annotated[str | None, typer.Option(help="Go on with this session.")] = None,
        as_json: Json = False, home: Home = None) -> None:
    """Ask one question."""
    from agent.surfaces.chat import events_to_table, foot

    with loader(home, quiet=as_json) as load:
        done = load(domain).ask_sync(text, session)
    show(events_to_table(done), as_json, lambda: print(f"{done.reply}\n{foot(done)}"))


@app.command()
def train(domain: Annotated[list[str], typer.Argument(help="One domain, or several that share one generator adapter.")],
          recipe: Annotated[str, typer.Option(help="A shipped recipe or a .toml file.")] = "default",
          part: Annotated[str, typer.Option(help="both, router, generator, or head: new intents on the champion's encoder, "
                                            "in seconds. The rest comes from the champion.")] = "both",
          champion: Annotated[bool, typer.Option(help="Make the new bundle the champion without a test.")] = False,
          starter: Annotated[bool, typer.Option(help="Write the bundle to the domain's own models/ folder.")] = False,
          as_json: Json = False, home: Home = None) -> None:
    """Tune router and generator from the domain's rows, as one new bundle."""
    from agent.domain import Domain
    from agent.registry import Bundle, Registry
    from agent.serving import Bases
    from agent.settings import Settings
    from agent.surfaces.progress import TrainPrinter, model_bar
    from tuning import recipe as recipes
    from tuning import train as room

    settings, loaded = Settings.load(home=home), [Domain.load(name) for name in domain]
    if part not in ("both", *room.PARTS, room.HEAD):
        raise typer.BadParameter("part is both, router, generator or head")
    with model_bar(as_json) as watch:
        bases = Bases.ensure(settings, watch)
    printer, made = TrainPrinter(), []
    parts = room.PARTS if part == "both" else (part,)
    for step in room.train(loaded, settings, recipes.load(recipe), bases, parts=parts, starter=starter):
        if isinstance(step, Bundle):
            made.append(step)
        elif not as_json:
            printer.show(step)
    for each, bundle in zip(loaded, made if champion else []):
        registry = Registry(each, settings.home)
        registry.promote(bundle.version, registry.aliases().get("champion"), "asked for by `retune train --champion`",
                         getpass.getuser())
    show([{"bundle": bundle.name, "path": str(bundle.path), **bundle.manifest} for bundle in made], as_json,
         lambda: print("\n".join(f"{b.name} is ready in {b.path} ({b.manifest['train_s']} s)." for b in made)))


@app.command()
def evaluate(domain: DomainArgument, version: Annotated[str, typer.Option(help="Alias, number or domain@0007.")] = "champion",
             only: Annotated[str, typer.Option(help="Parts, comma separated: router, generator, retrieval, end_to_end, conversations, red_flags.")] = "",
             limit: Annotated[int, typer.Option(help="Held-out questions at most, for the generator and end to end; 0: all.")] = 0,
             perplexity: Annotated[bool, typer.Option(help="That of the reference answers too, one pass an arm more.")] = False,
             writer: Annotated[str, typer.Option(help="Who writes the arms' answers: batch (transformers) or onnx.")] = "batch",
             as_json: Json = False, home: Home = None) -> None:
    """Hold a bundle against rows that it never saw: base, few-shot and tuned side by side."""
    from agent.agent import Agent
    from agent.generators.scripted import ScriptedGenerator
    from agent.surfaces.progress import model_bar
    from agent.surfaces.tables import print_report
    from tuning.answers import WRITERS
    from tuning.report import PARTS, needs_generator, report

    parts = tuple(filter(None, only.split(",")))
    if unknown := [name for name in parts if name not in PARTS]:
        raise typer.BadParameter(f"there is no part {unknown[0]!r}; parts are {', '.join(PARTS)}")
    if writer not in WRITERS:
        raise typer.BadParameter(f"writer is {' or '.join(WRITERS)}")
    silent = None if needs_generator(parts) else ScriptedGenerator("")  # what is not asked need not be loaded
    with model_bar(as_json) as watch:
        agent = Agent.load(domain, home=home, watch=watch, generator=silent)
    try:
        table = report(agent, version, parts, limit, lambda line: print(line, file=sys.stderr), perplexity=perplexity,
                       writer=writer)
    finally:
        agent.close()
    show(table, as_json, lambda: print_report(table))


@app.command()
def models(as_json: Json = False, home: Home = None) -> None:
    """Fetch, verify and convert the base models; say where they are."""
    from agent import models as room
    from agent.settings import Settings
    from agent.surfaces.progress import model_bar

    settings = Settings.load(home=home)
    with model_bar(as_json) as watch:
        found = [room.ensure(name, settings, watch) for name in (settings.encoder, settings.generator)]
    for model in found:
        room.verify(model)
    rows = [{"name": m.name, "path": str(m.path), "fingerprint": m.fingerprint} for m in found]
    show(rows, as_json, lambda: print("\n".join(f"{row['name']:<10} {row['fingerprint'][:12]}  {row['path']}" for row in rows)))


@app.command()
def doctor(as_json: Json = False, home: Home = None) -> None:
    """Check versions, disk, database, models, bundles; print remedies. Exit 1 if something is wrong."""
    from agent.settings import Settings
    from agent.surfaces.doctor import examine

    findings = examine(Settings.load(home=home))
    show([finding.table() for finding in findings], as_json, lambda: print("\n".join(map(str, findings))))
    if any(not finding.ok for finding in findings):
        raise typer.Exit(1)


@bench.command("router")
def bench_router(train: Annotated[Path, typer.Option(help="Rows {\"text\", \"intent\"} to train on.")],
                 test: Annotated[Path, typer.Option(help="Rows to test on; touched once, at the end.")],
                 valid: Annotated[Path | None, typer.Option(help="Rows for stopping and calibration.")] = None,
                 oos: Annotated[Path | None, typer.Option(help="Out-of-scope rows to test on.")] = None,
                 oos_valid: Annotated[Path | None, typer.Option(help="Out-of-scope rows for calibration.")] = None,
                 method: Annotated[str, typer.Option(help="tuned, or frozen (logistic regression on the plain encoder).")] = "tuned",
                 recipe: Annotated[str, typer.Option(help="Of method tuned: a shipped recipe or a .toml file.")] = "sharp",
                 seed: int = 7, as_json: Json = False, home: Home = None) -> None:
    """Train a router on any rows and print what it reaches."""
    from agent.settings import Settings
    from agent.surfaces.progress import TrainPrinter
    from tuning.bench import bench_router as run

    printer = TrainPrinter()
    table = run(train, test, valid, oos, oos_valid, method, seed, Settings.load(home=home),
                (lambda step: None) if as_json else printer.show, recipe)
    pairs = [f"{count:>6}  {true}, taken for {guess}" for true, guess, count in table["confused"]]
    lines = [f"{name:<18} {value}" for name, value in table.items() if name != "confused"]
    show(table, as_json, lambda: print("\n".join([*lines, *(["most often confused:", *pairs] if pairs else [])])))


if __name__ == "__main__":
    main()
