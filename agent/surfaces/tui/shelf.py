"""What the models screen shows of a domain: its bundles, their reports, what is on trial, what ran and what is next.

Reads registry, runs and schedule, and may block: call it in a thread. What is damaged is told in a sentence and hides nothing
else. Changes nothing.
"""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agent.aliases import Canary
    from agent.bundle import Bundle
    from agent.domain import Domain
    from agent.registry import Registry
    from agent.settings import Settings
    from agent.store import Store
    from tuning.runs import Run

LAST = 5  # runs


@dataclass(frozen=True, slots=True)
class Version:
    """A bundle as it stands in a list; a damaged one has but number, name and `damage`."""

    number: int
    name: str
    labels: tuple[str, ...] = ()
    """Its aliases, and whether it is on trial."""
    made: str = ""
    parent: str = ""
    recipe: str = ""
    decision: str = ""
    """promote, refuse or abstain; empty: never compared."""
    why: str = ""
    """The gate's words."""
    damage: str = ""


@dataclass(frozen=True, slots=True)
class Shelf:
    """All that is known about a domain's models."""

    domain: str
    table: str
    """As the domain is loaded, and headed in schedule.toml."""
    versions: tuple[Version, ...]
    """Newest first."""
    champion: int | None
    previous: int | None
    canary: "Canary | None"
    problem: str
    """What is wrong with the aliases; else empty."""
    runs: "tuple[Run, ...]"
    """Newest first."""
    next: str
    """When it will learn by itself, or why not, in words."""


@dataclass(frozen=True, slots=True)
class Moved:
    """A figure, or a slice of it, of the champion then and its challenger; shares from 0 to 1."""

    name: str
    n: int
    champion: float
    challenger: float
    delta: float
    low: float
    high: float
    few_shot: float | None = None


@dataclass(frozen=True, slots=True)
class Curve:
    """Losses of one stage by step, in nats."""

    stage: str
    loss: tuple[tuple[float, float], ...]
    held_out: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Report:
    """report.json of a bundle, as far as it is there; `problem` says why not."""

    champion: str = ""
    """The bundle that it was held against."""
    figures: tuple[Moved, ...] = ()
    slices: tuple[Moved, ...] = ()
    """Those that lost most first."""
    curves: tuple[Curve, ...] = ()
    further_pairs: int | None = None
    blocked: tuple[str, ...] = ()
    """What else kept it from promotion, in the gate's words."""
    problem: str = ""


def read(domain: "Domain", table: str, settings: "Settings", store: "Store", now: datetime) -> Shelf:
    """Everything but the reports. `table`: as the domain is loaded and headed in schedule.toml."""
    from agent.errors import BundleError
    from agent.registry import Registry
    from tuning import runs

    registry, aliases, canary, problem = Registry(domain, settings.home), dict[str, int](), None, ""
    try:
        aliases, canary = registry.aliases(), registry.canary()
    except BundleError as error:
        problem = str(error)
    versions = tuple(_version(registry, number, aliases, canary) for number in sorted(_numbers(registry), reverse=True))
    found = [run for kind in ("retrain", "watch") for run in runs.latest(store, f"{kind} {domain.name}", LAST)]
    found.sort(key=lambda run: run.created, reverse=True)
    return Shelf(domain.name, table, versions, aliases.get("champion"), aliases.get("previous"), canary, problem,
                 tuple(found[:LAST]), _next(table, settings.home, now))


def report(registry: "Registry", version: Version) -> Report:
    """What its comparison with the champion said; hashes every file of the bundle."""
    from agent.errors import BundleError

    if version.damage:
        return Report(problem=version.damage)
    made, damage = Report(), ""
    try:
        bundle = registry.get(str(version.number))
        file = bundle.path / "report.json"
        if file.is_file():
            made = _report(json.loads(file.read_text(encoding="utf-8")))
        bundle.verify()
    except BundleError as error:
        damage = str(error)
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        damage = (f"report.json of {version.name} cannot be read ({type(error).__name__}: {error}), so its figures are not "
                  f"shown; `retune evaluate {registry.domain.name} --version {version.number}` asks anew.")
    return replace(made, problem=damage)


def stamp(registry: "Registry") -> tuple[Any, ...]:
    """Changes when a bundle is added or an alias does; cheap."""
    file = registry.alias_file
    return (file.stat().st_mtime_ns if file.is_file() else 0, *sorted(_numbers(registry)))


def _numbers(registry: "Registry") -> list[int]:
    """Of every bundle with a manifest, damaged or not."""
    from agent.bundle import MANIFEST

    made = [int(path.name) for path in registry.folder.glob("[0-9]*")
            if re.fullmatch("[0-9]+", path.name) and (path / MANIFEST).is_file()]
    return [*([1] if (registry.domain.models / MANIFEST).is_file() else []), *made]


def _version(registry: "Registry", number: int, aliases: dict[str, int], canary: "Canary | None") -> Version:
    from agent.errors import BundleError
    from agent.surfaces.keeping import labels

    name, named = f"{registry.domain.name}@{number:04}", tuple(labels(number, aliases, canary))
    try:
        bundle: Bundle = registry.get(str(number))
    except (BundleError, OSError) as error:
        return Version(number, name, named, damage=str(error))
    said = {key: value for key, value in bundle.manifest.items() if isinstance(value, str)}
    verdict = bundle.manifest.get("verdict")
    verdict = verdict if isinstance(verdict, dict) else {}
    return Version(number, name, named, said.get("made", ""), said.get("parent", ""), said.get("recipe", ""),
                   str(verdict.get("decision") or ""), str(verdict.get("why") or ""))


def _report(table: dict[str, Any]) -> Report:
    verdict = table.get("verdict") or {}
    curves: dict[str, tuple[list[tuple[float, float]], list[tuple[float, float]]]] = {}
    for row in table.get("curves") or ():
        pair = curves.setdefault(str(row["stage"]), ([], []))
        value, which = (row["loss"], pair[0]) if row["held_out"] is None else (row["held_out"], pair[1])
        if math.isfinite(value):
            which.append((float(row["done"]), float(value)))
    return Report(
        str(table["champion"]), tuple(_moved(entry, str(entry["part"])) for entry in table["figures"]),
        tuple(sorted((_moved(entry, f"{entry['part']} {entry['slice']}={entry['value']}") for entry in table["slices"]),
                     key=lambda moved: (moved.delta, moved.name))),
        tuple(Curve(stage, tuple(sorted(loss)), tuple(sorted(held))) for stage, (loss, held) in curves.items()),
        verdict.get("further_pairs"), tuple(str(each["words"]) for each in verdict.get("findings") or ()
                                            if each["blocks"] and each["words"] != verdict.get("why")))


def _moved(entry: dict[str, Any], name: str) -> Moved:
    few = entry.get("few_shot")
    return Moved(name, int(entry["n"]), *(float(entry[key]) for key in ("champion", "challenger", "delta", "low", "high")),
                 None if few is None else float(few))


def _next(table: str, home: Path, now: datetime) -> str:
    from zoneinfo import ZoneInfo

    from agent.errors import SettingsError
    from tuning import plan

    if not (home / plan.FILE).is_file():
        return f"not scheduled; `retune schedule --init {table}` writes {plan.FILE}"
    try:
        mine = plan.load(home).get(table)
    except SettingsError as error:
        return str(error)
    if mine is None:
        return f"not scheduled; {plan.FILE} has no table [{table}]"
    after = mine.after(now)
    when = [f"{after.astimezone(ZoneInfo(mine.timezone)):%Y-%m-%d %H:%M} {mine.timezone}"] if after else []
    when += [f"at {mine.rows} new reviewed rows"] if mine.rows else []
    when += ["at drift"] if mine.drift else []
    return ", or ".join(when) or "only when it is asked for"


def words(runs: "Sequence[Run]") -> list[str]:
    """A line a run: when, how it ended, why."""
    return [f"{run.created[:16].replace('T', ' ')} {run.status if run.status != 'running' or run.held else 'left behind'}  "
            f"{run.detail.get('words') or run.stage or run.window}" for run in runs]
