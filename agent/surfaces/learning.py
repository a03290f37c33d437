"""Commands that learn: retrain on what was logged, and replay labelled traffic. They call one room and print."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from agent.surfaces.options import DomainArgument, Home, Json, show

app = typer.Typer()


@app.command()
def retrain(domain: DomainArgument,
            recipe: Annotated[str, typer.Option(help="A shipped recipe or a .toml file.")] = "default",
            limit: Annotated[int, typer.Option(help="Held-out questions at most; 0: all.")] = 0,
            dry_run: Annotated[bool, typer.Option("--dry-run", help="Count the rows; say what was left out and why.")] = False,
            steps: Annotated[bool, typer.Option("--steps", help="Print each step as JSON, a line each, the outcome last.")] = False,
            nice: Annotated[int, typer.Option(min=0, max=19, help="How far to step back behind other programs.")] = 0,
            as_json: Json = False, home: Home = None) -> None:
    """Learn from logged turns and feedback; promote the new bundle if it is shown to be better. Exit 1 if it is not."""
    from agent.domain import Domain
    from agent.serving import Bases
    from agent.settings import Settings
    from agent.store import Store
    from agent.surfaces.progress import StepLines, TrainPrinter, model_bar
    from agent.surfaces.tables import print_comparison
    from tuning import loop, schedule
    from tuning import recipe as recipes

    schedule.step_back(nice)
    settings, loaded = Settings.load(home=home), Domain.load(domain)
    store = Store(settings.database_url)
    store.open()
    try:
        with model_bar(as_json or steps) as watch:
            bases = Bases.ensure(settings, watch)
        if dry_run:
            rows = loop.gather(loaded, store, bases, settings)
            show(rows.summary(), as_json, lambda: print(loop.describe(rows)))
            return
        printer = StepLines() if steps else TrainPrinter()
        ended: list[Any] = []
        for step in loop.retrain(loaded, settings, recipes.load(recipe), bases, store, limit=limit):
            ended.append(step) if isinstance(step, loop.Outcome) else printer.show(step)
        end = ended[-1]

        def lines() -> None:
            if end.bundle:
                print_comparison(end.table)
            print(f"{end.status}: {end.words}" + (f" ({end.bundle})" if end.bundle else ""))

        if steps:
            printer.show(end)
        else:
            show({"status": end.status, "bundle": end.bundle, "words": end.words, **end.table}, as_json, lines)
        raise typer.Exit(0 if end.status in ("promoted", "nothing") else 1)
    finally:
        store.close()


@app.command()
def simulate(train: Annotated[Path, typer.Option(help="Rows {\"text\", \"intent\"}, played as traffic.")],
             test: Annotated[Path, typer.Option(help="Rows to test on.")],
             shots: Annotated[int, typer.Option(help="Examples per intent at the start.")] = 5,
             share: Annotated[float, typer.Option(help="Of the turns, those that get a label.")] = 0.2,
             wrong: Annotated[float, typer.Option(help="Of the labels, those that are wrong.")] = 0.1,
             every: Annotated[int, typer.Option(help="Turns between two trainings.")] = 3200,
             ask: Annotated[str, typer.Option(help="uncertain, random, or both for a comparison.")] = "both",
             method: Annotated[str, typer.Option(help="tuned, frozen (seconds instead of minutes), or tuned_last.")] = "tuned",
             seeds: Annotated[int, typer.Option(help="Replays, each with traffic in another order.")] = 1,
             everything: Annotated[bool, typer.Option(help="Train on every label too, and compare with it.")] = True,
             against: Annotated[Path | None, typer.Option(help="What `retune bench router --json` printed for every label, "
                                                          "in place of training on it again.")] = None,
             recipe: Annotated[str, typer.Option(help="A shipped recipe or a .toml file.")] = "default",
             out: Annotated[Path, typer.Option(help="Folder for curve.json and curve.png.")] = Path("simulation"),
             as_json: Json = False, home: Home = None) -> None:
    """Play labelled rows as traffic with corrections and retraining; the result is a learning curve."""
    from agent import models
    from agent.settings import Settings
    from agent.surfaces.progress import TrainPrinter
    from tuning import curves
    from tuning import recipe as recipes
    from tuning import simulate as room
    from tuning.bench import read_texts

    settings, printer = Settings.load(home=home), TrainPrinter()
    plans = [room.Plan(shots, share, wrong, every, each, method, seed)
             for seed in range(seeds) for each in (room.ASK if ask == "both" else (ask,))]
    table: dict[str, Any] = {}
    for step in room.replay(read_texts(train), read_texts(test), plans, recipes.load(recipe).router,
                            models.ensure(settings.encoder, settings), settings.cores, everything and not against):
        if isinstance(step, dict):
            table = step
        elif isinstance(step, room.Point):
            print(f"{step.turns} turns, {step.labels} labels: accuracy {step.accuracy:.4f}", file=sys.stderr, flush=True)
        else:
            printer.show(step)
    if against:
        table |= curves.held_against(table, json.loads(against.read_text(encoding="utf-8")))
    out.mkdir(parents=True, exist_ok=True)
    (out / "curve.json").write_text(json.dumps(table, indent=1), encoding="utf-8")
    curves.draw(table["curves"], table.get("everything", {}).get("accuracy"), out / "curve.png")
    show(table, as_json, lambda: print("\n".join(curves.words(table)) + f"\n{out / 'curve.json'}, {out / 'curve.png'}"))
