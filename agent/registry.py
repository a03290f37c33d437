"""Bundles on disk: immutable versions, and who among them is champion. Files only; knows nothing about what a bundle does.

The starter bundle that ships with a domain is version 1; versions made on this machine follow it in the home. Every change
takes one lock, first puts right what a killed process left, and leaves a row in the audit chain; readers take no lock.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from filelock import FileLock

from agent import aliases as alias_file
from agent import audit, bundle, paths
from agent.aliases import NAMES, Aliases, Canary
from agent.audit import Chain, Row
from agent.bundle import MANIFEST, Bundle
from agent.domain import Domain
from agent.errors import BundleError
from agent.models import sha256
from agent.prompt import prompt_hash

__all__ = ["MANIFEST", "NAMES", "Bundle", "Canary", "Registry"]


class Registry:
    """Versions and aliases of one domain."""

    def __init__(self, domain: Domain, home: Path) -> None:
        self.domain = domain
        self.folder = paths.registry(home) / domain.name

    @property
    def alias_file(self) -> Path:
        """Changes whenever an alias or the canary does."""
        return self.folder / "aliases.json"

    def versions(self) -> list[Bundle]:
        """All whole bundles, oldest first; one whose manifest is damaged is left out here and named by `get`."""
        found = []
        for number, folder in self._folders():
            with suppress(BundleError):
                found.append(Bundle.read(self.domain.name, number, folder))
        return found

    def aliases(self) -> dict[str, int]:
        """Alias -> version; the newest starter is champion until somebody says otherwise."""
        return self._aliases().names

    def canary(self) -> Canary | None:
        """The version on trial, if there is one."""
        return self._aliases().canary

    def get(self, name: str = "champion") -> Bundle:
        """A bundle by alias, number or `domain@0007`; raises BundleError with what there is."""
        said = re.fullmatch(rf"(?:{re.escape(self.domain.name)}@)?([0-9]+)", name)
        wanted = self.aliases().get(name) if name in NAMES else int(said[1]) if said else None
        for number, folder in self._folders():
            if number == wanted:
                return Bundle.read(self.domain.name, number, folder)
        known = ", ".join(bundle.name for bundle in self.versions()) or "none"
        raise BundleError(f"{self.domain.name} has no bundle {name!r} (there are: {known}); "
                          f"make one with `retune train {self.domain.name}`.")

    def publish(self, built: Path, manifest: dict[str, Any], target: Path | None = None, by: str = "retune") -> Bundle:
        """Copy a built folder into the registry, or to `target`; the manifest is written last and the copy is on disk.

        A file that an earlier version here has too is a hard link to that one where the disk allows it.
        """
        with self._changing() as chain:
            number = 1 if target else max([1, *self._numbers(), *_published(chain.rows())]) + 1
            target = target or self.folder / f"{number:04}"
            bundle.write(built, manifest, target, (each for each in self.versions() if each.path.parent == self.folder))
            made = Bundle.read(self.domain.name, number, target)
            chain.add(chain.row("publish", _detail(made), by))
        return made

    def promote(self, version: int, expected: int | None, reason: str, by: str,
                check: Callable[[], None] | None = None) -> Bundle:
        """Make `version` the champion if `expected` still is; `check` runs under the lock, last before the switch.

        Raises BundleError if somebody else was faster or the version is missing or damaged; what `check` raises goes through.
        Nothing has changed then. The champion before becomes `previous`.
        """
        with self._changing() as chain:
            chosen, now = self.get(str(version)), self._aliases()
            if now.names.get("champion") != expected:
                raise BundleError(f"The champion is now {now.names.get('champion')}, not {expected}; look again and retry.")
            chosen.verify()
            names = {name: number for name, number in now.names.items() if (name, number) != ("challenger", version)}
            names |= {"champion": version} | ({"previous": expected} if expected and expected != version else {})
            if check:
                check()
            self._switch(chain, "promote", now, names, _unless(now.canary, version), reason, by)
        return chosen

    def rollback(self, reason: str, by: str, check: Callable[[Bundle], None] | None = None) -> Bundle:
        """Make `previous` the champion again; `check` may refuse it, such as `Bundle.check_fits` does.

        Raises BundleError with the next step if there is none or it cannot serve; nothing has changed then. Who was champion
        does not become `previous`: a second rollback must not bring back what the first one took away.
        """
        with self._changing() as chain:
            now, remedy = self._aliases(), f"choose one of `retune versions {self.domain.name}` with `retune promote`."
            if "previous" not in now.names:
                raise BundleError(f"{self.domain.name} has no earlier champion to go back to; {remedy}")
            chosen = self.get("previous")
            chosen.verify()
            if chosen.manifest.get("prompt") != prompt_hash(self.domain):
                raise BundleError(f"Bundle {chosen.name} was made for another prompt; {remedy}")
            if check:
                check(chosen)
            names = {"champion": chosen.version} | {name: now.names[name] for name in ("challenger",) if name in now.names}
            self._switch(chain, "rollback", now, names, _unless(now.canary, now.names.get("champion")), reason, by)
        return chosen

    def set_challenger(self, version: int | None, reason: str, by: str) -> None:
        """Name the version that may be promoted next, so that what follows the registry can load it ahead; None: nobody."""
        with self._changing() as chain:
            now = self._aliases()
            names = {name: number for name, number in now.names.items() if name != "challenger"}
            if version is not None:
                self.get(str(version)).verify()
                names["challenger"] = version
            if names != now.names:
                self._switch(chain, "challenger", now, names, now.canary, reason, by)

    def set_canary(self, version: int | None, share: float, reason: str, by: str, shadow: bool = False) -> None:
        """Give a version that share of the sessions, or let it watch them (`shadow`); None or share 0 ends the trial."""
        if not 0 <= share <= 1:
            raise BundleError(f"A share of {share} is no share; give a number from 0 to 1, such as 0.1.")
        with self._changing() as chain:
            now, canary = self._aliases(), None
            if version is not None and share:
                self.get(str(version)).verify()
                canary = Canary(version, share, shadow)
            if canary != now.canary:
                self._switch(chain, "canary", now, now.names, canary, reason, by)

    def audit(self) -> list[Row]:
        """Every row of the chain, oldest first, after putting right what a killed process left."""
        if not self.folder.is_dir():
            return []
        with self._changing() as chain:
            return chain.rows()

    def problems(self) -> list[str]:
        """What is wrong with chain, aliases and manifests, a sentence each; changes nothing."""
        chain = Chain(self.folder / "audit.jsonl")
        problems, rows = audit.verify(chain.file), chain.rows()
        try:
            said = self._aliases()
        except BundleError as error:
            return [*problems, str(error)]
        if said.row and said.row["hash"] not in {row.get("hash") for row in rows}:
            problems.append(f"{self.alias_file.name} was made by a change that {chain.file.name} does not hold (by "
                            f"{said.row.get('by')}, {said.row.get('at')}): its newest rows are missing.")
        if said.row and said.table() != said.row["detail"].get("to"):
            problems.append(f"{self.alias_file.name} was changed by hand: its row says {said.row['detail'].get('to')}.")
        told = _published(rows)
        problems += [f"{each.name}: its {MANIFEST} is not the one that was published." for each in self.versions()
                     if each.version > 1 and told.get(each.version) not in (None, _detail(each)["manifest"])]
        return problems

    @contextmanager
    def _changing(self) -> Iterator[Chain]:
        """One writer at a time, on whole files: rows that a killed process did not come to write are added first."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / "registry.lock"):
            chain, pending = Chain(self.folder / "audit.jsonl"), None
            with suppress(BundleError):  # named by who needs the aliases
                pending = alias_file.read(self.alias_file).row
            chain.mend(pending)
            told = _published(chain.rows())
            for each in self.versions():
                if each.version > 1 and each.version not in told:
                    chain.add(chain.row("publish", _detail(each) | {"found": "after an interruption"}, "retune"))
            yield chain

    def _switch(self, chain: Chain, what: str, now: Aliases, names: dict[str, int], canary: Canary | None, reason: str,
                by: str) -> None:
        new = Aliases(names, canary)
        row = chain.row(what, {"from": now.table(), "to": new.table(), "reason": reason}, by)
        alias_file.write(self.alias_file, replace(new, row=row))  # here it takes effect
        chain.add(row)

    def _aliases(self) -> Aliases:
        said = alias_file.read(self.alias_file)
        starter = not self.alias_file.is_file() and (self.domain.models / MANIFEST).is_file()
        return replace(said, names={"champion": 1}) if starter else said

    def _numbers(self) -> dict[int, Path]:
        """Number -> folder of what was published here, whole or not; no number is given twice."""
        return {int(path.name): path for path in self.folder.glob("[0-9]*") if re.fullmatch("[0-9]+", path.name)}

    def _folders(self) -> list[tuple[int, Path]]:
        """(number, folder) of every bundle with a manifest, oldest first."""
        folders = [(1, self.domain.models), *sorted(self._numbers().items())]
        return [(number, folder) for number, folder in folders if (folder / MANIFEST).is_file()]


def _detail(made: Bundle) -> dict[str, Any]:
    return {"version": made.version, "content": made.hash, "manifest": sha256(made.path / MANIFEST)}


def _published(rows: list[Row]) -> dict[int, str | None]:
    """Version -> sha256 of the manifest as it was published; None where a row of before there were hashes names it."""
    found: dict[int, str | None] = {}
    for row in rows:
        if row.get("what") == "publish" and (detail := row.get("detail")):
            if isinstance(detail, dict):
                found[detail["version"]] = detail["manifest"]
            else:
                found[int(detail.rpartition("@")[2])] = None
    return found


def _unless(canary: Canary | None, version: int | None) -> Canary | None:
    """A trial ends when its version becomes champion, or stops being it."""
    return None if canary and canary.version == version else canary
