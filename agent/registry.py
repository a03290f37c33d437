"""Bundles on disk: immutable versions, aliases, audit. Files only; knows nothing about what a bundle does.

The starter bundle that ships with a domain is version 1; versions made on this machine follow it in the home.
"""

import json
import os
import re
import shutil
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock

from agent import paths
from agent.domain import Domain
from agent.errors import BundleError
from agent.models import BaseModel, sha256
from agent.prompt import prompt_hash

MANIFEST = "manifest.json"  # written last, so its existence means the bundle is whole
ALIASES = ("champion", "challenger", "previous")


@dataclass(frozen=True, slots=True)
class Bundle:
    """One version of router and generator together."""

    domain: str
    version: int
    path: Path
    manifest: dict[str, Any]

    @property
    def name(self) -> str:
        """`domain@0007`."""
        return f"{self.domain}@{self.version:04}"

    def part(self, name: str) -> Path | None:
        """Folder of `router` or `generator`, None if the manifest lists no file of it."""
        return self.path / name if any(file.startswith(f"{name}/") for file in self.manifest["files"]) else None

    def verify(self) -> None:
        """Raise BundleError unless every file is there and hashes to what the manifest says."""
        for file, digest in self.manifest["files"].items():
            found = self.path / file
            if not found.is_file() or sha256(found) != digest:
                raise BundleError(f"Bundle {self.name}: {found} is damaged or missing; choose another version with "
                                  f"`retune versions {self.domain}` or train a new one.")

    def check_fits(self, domain: Domain, encoder: BaseModel, generator: BaseModel) -> None:
        """Raise BundleError if the bundle was made on another base or with another prompt."""
        wanted = {"encoder": encoder.fingerprint, "generator": generator.fingerprint, "prompt": prompt_hash(domain)}
        for what, value in wanted.items():
            if self.manifest.get(what) != value:
                raise BundleError(f"Bundle {self.name} was made for another {what}; run `retune train {domain.name}` "
                                  "or go back to the settings that it was made with.")


class Registry:
    """Versions and aliases of one domain."""

    def __init__(self, domain: Domain, home: Path) -> None:
        self.domain = domain
        self.folder = paths.registry(home) / domain.name

    def versions(self) -> list[Bundle]:
        """All whole bundles, oldest first; one whose manifest is damaged is left out here and named by `get`."""
        found = []
        for number, folder in self._folders():
            with suppress(BundleError):
                found.append(self._read(number, folder))
        return found

    def aliases(self) -> dict[str, int]:
        """Alias -> version; the newest starter is champion until somebody says otherwise."""
        file = self.folder / "aliases.json"
        if not file.is_file():
            return {"champion": 1} if (self.domain.models / MANIFEST).is_file() else {}
        table = _json(file, "delete it to go back to the starter bundle, then promote the version that you want")
        if not all(isinstance(version, int) for version in table.values()):
            raise BundleError(f"{file} is damaged; each alias must name the number of a version.")
        return table

    def get(self, name: str = "champion") -> Bundle:
        """A bundle by alias, number or `domain@0007`; raises BundleError with what there is."""
        said = re.fullmatch(rf"(?:{re.escape(self.domain.name)}@)?([0-9]+)", name)
        wanted = self.aliases().get(name) if name in ALIASES else int(said[1]) if said else None
        for number, folder in self._folders():
            if number == wanted:
                return self._read(number, folder)
        known = ", ".join(bundle.name for bundle in self.versions()) or "none"
        raise BundleError(f"{self.domain.name} has no bundle {name!r} (there are: {known}); "
                          f"make one with `retune train {self.domain.name}`.")

    def publish(self, built: Path, manifest: dict[str, Any], target: Path | None = None) -> Bundle:
        """Copy a built folder into the registry, or to `target`; the manifest is written last and the copy is on disk."""
        files = sorted(path for path in built.rglob("*") if path.is_file() and path != built / MANIFEST)
        manifest = manifest | {"files": {path.relative_to(built).as_posix(): sha256(path) for path in files}}
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / "registry.lock"):
            number = 1 if target else max([1, *self._numbers()]) + 1
            target = target or self.folder / f"{number:04}"
            scratch = target.with_name(f".{target.name}.new")
            if scratch.exists():  # of a publisher that died
                shutil.rmtree(scratch)
            shutil.copytree(built, scratch)
            (scratch / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True), encoding="utf-8")
            for path in (*scratch.rglob("*"), scratch):
                _sync(path)
            if target.exists():
                shutil.rmtree(target)
            os.replace(scratch, target)
            _sync(target.parent)
            self._audit("publish", f"{self.domain.name}@{number:04}")
        return self._read(number, target)

    def set_champion(self, version: int, expected: int | None, reason: str) -> None:
        """Compare-and-swap of the champion alias, with an audit row; BundleError if somebody else was faster.

        Only a version that is there can become champion.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / "registry.lock"):
            aliases = self.aliases()
            if aliases.get("champion") != expected:
                raise BundleError(f"The champion is now {aliases.get('champion')}, not {expected}; look again and retry.")
            self.get(str(version))
            aliases |= {"champion": version} | ({"previous": expected} if expected else {})
            scratch = self.folder / ".aliases.json"
            scratch.write_text(json.dumps(aliases), encoding="utf-8")
            _sync(scratch)
            os.replace(scratch, self.folder / "aliases.json")
            self._audit("champion", f"{expected} -> {version}: {reason}")

    def _audit(self, what: str, detail: str) -> None:
        row = {"at": datetime.now(UTC).isoformat(), "what": what, "detail": detail}
        with (self.folder / "audit.jsonl").open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(row) + "\n")

    def _numbers(self) -> dict[int, Path]:
        """Number -> folder of what was published here, whole or not; no number is given twice."""
        return {int(path.name): path for path in self.folder.glob("[0-9]*") if re.fullmatch("[0-9]+", path.name)}

    def _folders(self) -> list[tuple[int, Path]]:
        """(number, folder) of every bundle with a manifest, oldest first."""
        folders = [(1, self.domain.models), *sorted(self._numbers().items())]
        return [(number, folder) for number, folder in folders if (folder / MANIFEST).is_file()]

    def _read(self, number: int, folder: Path) -> Bundle:
        manifest = _json(folder / MANIFEST, f"restore it or delete {folder}")
        if not isinstance(manifest.get("files"), dict):
            raise BundleError(f"{folder / MANIFEST} is damaged; restore it or delete {folder}.")
        return Bundle(self.domain.name, number, folder, manifest)


def _json(file: Path, remedy: str) -> dict[str, Any]:
    try:
        table = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BundleError(f"{file} is damaged; {remedy}.") from error
    if not isinstance(table, dict):
        raise BundleError(f"{file} is damaged; {remedy}.")
    return table


def _sync(path: Path) -> None:
    """On the disk, not only on its way there; a folder too."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
