"""Commands over a domain's bundles: `versions`, `promote`, `rollback`, `canary`, `audit`. No rules of the registry's own."""

import getpass
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.surfaces.options import DomainArgument, Home, Json, show

if TYPE_CHECKING:
    from agent.bundle import Bundle
    from agent.registry import Canary, Registry
    from agent.settings import Settings

app = typer.Typer()
VersionArgument = Annotated[str, typer.Argument(help="A number, domain@0007 or an alias; `retune versions` lists them.")]
Reason = Annotated[str, typer.Option(help="Why; it stands in the audit.")]


@app.command()
def versions(domain: DomainArgument, as_json: Json = False, home: Home = None) -> None:
    """List a domain's bundles, their aliases and what their comparison with the champion said."""
    registry, _ = _registry(domain, home)
    aliases, canary, rows = registry.aliases(), registry.canary(), []
    for each in registry.versions():
        alias = labels(each.version, aliases, canary)
        told = {name: each.manifest.get(name) for name in ("made", "parent", "recipe", "train_s")}
        rows.append({"bundle": each.name, "alias": ", ".join(alias) or None, **told, "verdict": decision(each),
                     "hash": each.hash, "path": str(each.path)})
    show(rows, as_json, lambda: print("\n".join(
        f"{row['bundle']}  {row['alias'] or '-':<10} made {row['made']}  recipe {row['recipe']}  "
        f"verdict {row['verdict'] or '-'}  {row['path']}" for row in rows)
        or f"No bundles yet; make one with `retune train {domain}`."))


@app.command()
def promote(domain: DomainArgument, version: VersionArgument, reason: Reason = "asked for by `retune promote`",
            force: Annotated[bool, typer.Option("--force", help="Even if its report does not say promote.")] = False,
            as_json: Json = False, home: Home = None) -> None:
    """Make a version the champion; running agents go over to it. Exit 1 if its report does not say so."""
    registry, settings = _registry(domain, home)
    bundle = make_champion(registry, settings, version, reason, getpass.getuser(), force)
    table = {"champion": bundle.name, "previous": registry.aliases().get("previous"), "reason": reason}
    show(table, as_json, lambda: print(f"{bundle.name} is the champion; `retune rollback {domain}` takes it back."))


@app.command()
def rollback(domain: DomainArgument, reason: Reason = "asked for by `retune rollback`", as_json: Json = False,
             home: Home = None) -> None:
    """Make the champion before the champion again; running agents go over to it."""
    registry, settings = _registry(domain, home)
    left = registry.get("champion").name
    bundle = registry.rollback(reason, getpass.getuser(), lambda old: check_fits(registry, settings, old))
    show({"champion": bundle.name, "left": left, "reason": reason}, as_json,
         lambda: print(f"{bundle.name} is the champion again, after {left}."))


@app.command()
def canary(domain: DomainArgument, version: Annotated[str | None, typer.Argument(help="The version to try.")] = None,
           share: Annotated[float, typer.Option(min=0, max=1, help="Of the sessions that get it.")] = 0.1,
           shadow: Annotated[bool, typer.Option("--shadow", help="It answers nobody; what it thinks is written down.")] = False,
           off: Annotated[bool, typer.Option("--off", help="End the trial.")] = False,
           reason: Reason = "asked for by `retune canary`", as_json: Json = False, home: Home = None) -> None:
    """Try a version on a share of the sessions, or see what is on trial."""
    registry, settings = _registry(domain, home)
    if off:
        registry.set_canary(None, 0, reason, getpass.getuser())
    elif version is not None:
        bundle = registry.get(version)
        check_fits(registry, settings, bundle)
        registry.set_canary(bundle.version, share, reason, getpass.getuser(), shadow)
    now = registry.canary()
    table = {"canary": now and now.table()}
    how = "watches" if now and now.shadow else "answers"
    show(table, as_json, lambda: print(f"{registry.get(str(now.version)).name} {how} {now.share:.0%} of the sessions."
                                       if now else f"No version of {registry.domain.name} is on trial."))


@app.command()
def audit(domain: DomainArgument,
          verify: Annotated[bool, typer.Option("--verify", help="Only look for what was changed.")] = False,
          as_json: Json = False, home: Home = None) -> None:
    """Who changed what and why, oldest first. With --verify exit 1 if rows, aliases or manifests were tampered with."""
    registry, _ = _registry(domain, home)
    if not verify:
        rows = registry.audit()
        show(rows, as_json, lambda: print("\n".join(map(_line, rows)) or f"Nothing has happened to {domain} yet."))
        return
    problems = registry.problems()
    show({"sound": not problems, "problems": problems}, as_json, lambda: print("\n".join(problems) or "The audit is sound."))
    if problems:
        raise typer.Exit(1)


def _registry(domain: str, home: Path | None) -> "tuple[Registry, Settings]":
    from agent.domain import Domain
    from agent.registry import Registry
    from agent.settings import Settings

    settings = Settings.load(home=home)
    return Registry(Domain.load(domain), settings.home), settings


def labels(version: int, aliases: Mapping[str, int], canary: "Canary | None") -> list[str]:
    """What a version is just now, such as champion, or canary with its share."""
    alias = [name for name, number in aliases.items() if number == version]
    if canary and canary.version == version:
        alias.append("shadow" if canary.shadow else f"canary {canary.share:.0%}")
    return alias


def decision(bundle: "Bundle") -> str | None:
    """promote, refuse or abstain; None for a bundle that was never compared."""
    verdict = bundle.manifest.get("verdict")
    return verdict.get("decision") if isinstance(verdict, dict) else None


def make_champion(registry: "Registry", settings: "Settings", version: str, reason: str, by: str,
                  force: bool = False) -> "Bundle":
    """Promote a version whose report says so, or with `force` any that fits; BundleError says why nothing has changed."""
    from agent.errors import BundleError

    bundle, before, name = registry.get(version), registry.aliases().get("champion"), registry.domain.name
    if bundle.version > 1 and decision(bundle) != "promote" and not force:  # the starter came with the domain
        said = f"says {decision(bundle)}" if decision(bundle) else "is missing: it was never compared with the champion"
        raise BundleError(f"The verdict on {bundle.name} {said}; look at `retune evaluate {name} --version "
                          f"{bundle.version}`, or promote it all the same with --force and a --reason.")
    check_fits(registry, settings, bundle)
    registry.promote(bundle.version, before, f"{reason} (forced)" if force else reason, by)
    return bundle


def check_fits(registry: "Registry", settings: "Settings", bundle: "Bundle") -> None:
    """Raise BundleError if the bases or the prompt of this machine are others; bases that are not here yet fit nothing less."""
    from agent import models

    encoder, generator = (models.find(name, settings) for name in (settings.encoder, settings.generator))
    if encoder and generator:
        bundle.check_fits(registry.domain, encoder, generator)


def _line(row: dict[str, Any]) -> str:
    detail = row.get("detail")
    if isinstance(detail, dict) and "to" in detail:
        said = f"{_aliases(detail['from'])} -> {_aliases(detail['to'])}: {detail['reason']}"
    elif isinstance(detail, dict) and "version" in detail:
        said = f"version {detail['version']}, content {detail['content'][:12]}"
    else:
        said = str(detail)
    return f"{row.get('at', '')[:19]}  {row.get('what', ''):<10} {said}  (by {row.get('by', 'unknown')})"


def _aliases(table: dict[str, Any]) -> str:
    said = (f"{name} {value['version'] if isinstance(value, dict) else value}" for name, value in table.items())
    return ", ".join(said) or "none"
