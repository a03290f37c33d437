"""Commands that learn by themselves: `tick` does what is due, `schedule` keeps the time, `runs` says what was done."""

import signal
import sys
import threading
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.surfaces.options import Home, Json, show

if TYPE_CHECKING:
    from agent.domain import Domain
    from agent.settings import Settings
    from agent.store import Store
    from tuning.plan import Plan
    from tuning.runs import Outcome
    from tuning.schedule import Result

app = typer.Typer()
FORMATS = ["%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%dT%H:%M%z", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M"]


@app.command()
def tick(domain: Annotated[list[str] | None, typer.Argument(help="Tables of schedule.toml; without any, all.")] = None,
         ask: Annotated[str, typer.Option(help="Retrain now, for this reason.")] = "",
         now: Annotated[datetime | None, typer.Option(help="Another time than now, ISO; UTC unless it says otherwise.",
                                                      formats=FORMATS)] = None,
         as_json: Json = False, home: Home = None) -> None:
    """Do what is due and leave; as often as you like. Exit 1 if something failed."""
    from agent.settings import Settings
    from agent.store import Store

    settings = Settings.load(home=home)
    plans = _plans(settings, domain)
    time = now or datetime.now(UTC)
    with closing(Store(settings.database_url)) as store:
        store.open()
        results = _round(plans, settings, store, time if time.tzinfo else time.replace(tzinfo=UTC), threading.Event(), ask)
    show([result.table() for result in results], as_json, lambda: print("\n".join(map(_line, results)) or "Nothing is due."))
    if any(result.outcome.status == "failed" for result in results):
        raise typer.Exit(1)


@app.command()
def schedule(init: Annotated[str, typer.Option(metavar="DOMAIN", help="Write a commented schedule.toml for this domain.")] = "",
             home: Home = None) -> None:
    """Keep the time and do what is due, until Ctrl-C or SIGTERM; a run that is cut off goes on at the next start."""
    from agent.settings import Settings
    from agent.store import Store
    from tuning import plan
    from tuning.schedule import keep_time

    settings = Settings.load(home=home)
    if init:
        print(f"{plan.write_example(settings.home, init)} is written; edit it, then start `retune schedule`.")
        return
    plans, stop, seen = _plans(settings, None), threading.Event(), dict[str, str]()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with closing(Store(settings.database_url)) as store:
        store.open()
        print(f"keeping time for {', '.join(each.domain for each in plans)}", flush=True)
        for results in keep_time(plans, lambda now: _round(plans, settings, store, now, stop, seen=seen), stop):
            for result in results:
                print(_line(result), flush=True)


@app.command()
def runs(domain: Annotated[str | None, typer.Argument(help="A shipped domain or a folder; without it all.")] = None,
         limit: Annotated[int, typer.Option(help="So many, newest first.")] = 20,
         as_json: Json = False, home: Home = None) -> None:
    """List what was done by itself, why, and how it ended."""
    from agent.domain import Domain
    from agent.settings import Settings
    from agent.store import Store
    from tuning import runs as room

    settings = Settings.load(home=home)
    jobs = [f"{kind} {Domain.load(domain).name}" for kind in ("retrain", "watch")] if domain else [None]
    with closing(Store(settings.database_url)) as store:
        store.open()
        found = [run for job in jobs for run in room.latest(store, job, limit)]
    found = sorted(found, key=lambda run: run.created, reverse=True)[:limit]
    rows = [{"job": run.job, "window": run.window, "status": run.status, "stage": run.stage, "why": run.detail.get("why", ""),
             "words": run.detail.get("words", ""), "bundle": run.detail.get("bundle"), "holder": run.holder,
             "began": run.created, "updated": run.updated} for run in found]
    show(rows, as_json, lambda: print("\n".join(
        f"{row['began'][:16]}  {row['job']:<20} {row['status']:<9} {row['window']}: {row['words'] or row['stage']}"
        for row in rows) or "Nothing was run yet."))


def _plans(settings: "Settings", names: list[str] | None) -> list["Plan"]:
    from agent.errors import SettingsError
    from tuning import plan

    plans = plan.load(settings.home)
    if missing := [name for name in names or () if name not in plans]:
        raise SettingsError(f"{settings.home / plan.FILE} has no table [{missing[0]}]; add one, or choose {', '.join(plans)}.")
    return [plans[name] for name in names or plans]


def _round(plans: list["Plan"], settings: "Settings", store: "Store", now: datetime, stop: threading.Event, ask: str = "",
           seen: dict[str, str] | None = None) -> list["Result"]:
    """One tick for each plan; a domain that cannot be read is a failed result and holds up no other."""
    from agent.errors import RetuneError
    from tuning.runs import Outcome
    from tuning.schedule import Result

    results = []
    for plan in plans:
        if stop.is_set():
            break
        try:
            results += _tick(plan, replace(settings, threads=plan.threads), store, now, stop, ask, seen)
        except RetuneError as error:
            results.append(Result(f"retrain {plan.domain}", "", "", Outcome("failed", str(error))))
    return results


def _tick(plan: "Plan", settings: "Settings", store: "Store", now: datetime, stop: threading.Event, ask: str,
          seen: dict[str, str] | None) -> list["Result"]:
    from agent.domain import Domain
    from agent.serving import Bases
    from agent.surfaces.progress import TrainPrinter
    from tuning import recipe, schedule, watch
    from tuning import runs as room

    domain, recipe_read = Domain.load(plan.domain), recipe.load(plan.recipe)

    def gather() -> Any:
        from tuning import loop

        return loop.gather(domain, store, Bases.ensure(settings), settings)

    def job(run: room.Run) -> room.Outcome:
        from tuning import loop

        schedule.step_back(plan.nice)
        printer, stage = TrainPrinter(), ""
        challenge = watch.on_trial(store, plan.canary_share, schedule.BY) if plan.canary_share else None
        for step in loop.retrain(domain, settings, recipe_read, Bases.ensure(settings), store, by=schedule.BY,
                                 fence=lambda: room.fenced(store, run), challenge=challenge):
            if isinstance(step, room.Outcome):
                return _on_trial(step, domain, settings, plan) if challenge else step
            if stop.is_set():
                sys.exit(0)
            if (begun := getattr(step, "stage", stage)) != stage:
                room.stage(store, run, stage := begun)
            printer.show(step)
        raise AssertionError("a retraining ends with an outcome")

    return schedule.tick(domain, store, settings, now, job, plan, gather, asked=ask, seen=seen)


def _on_trial(outcome: "Outcome", domain: "Domain", settings: "Settings", plan: "Plan") -> "Outcome":
    """As it is where the better bundle got its share of the sessions in place of the alias."""
    from agent.registry import Registry

    if outcome.status != "promoted" or not outcome.bundle:
        return outcome
    registry = Registry(domain, settings.home)
    if (canary := registry.canary()) and canary.version == registry.get(outcome.bundle).version:
        return replace(outcome, words=f"on trial with {plan.canary_share:.0%} of the sessions: {outcome.words}")
    return replace(outcome, status="refused", words="it is better on held-out rows, but people's thumbs ended its trial before")


def _line(result: "Result") -> str:
    return f"{result.job}: {result.outcome.status}. {result.outcome.words} (because {result.why or 'it is on the schedule'})"
