"""Bundles on disk: immutable versions, aliases, audit. Files only; knows nothing about what a bundle does.

The starter bundle that ships with a domain is version 1; versions made on this machine follow it in the home.
"""

import json
import os
import shutil
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
        """Folder of `router` or `generator`, None if the bundle was made without it."""
        folder = self.path / name
        return folder if folder.is_dir() else None

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
            if self.manifest[what] != value:
                raise BundleError(f"Bundle {self.name} was made for another {what}; run `retune train {domain.name}` "
                                  "or go back to the settings that it was made with.")


class Registry:
    """Versions and aliases of one domain."""

    def __init__(self, domain: Domain, home: Path) -> None:
        self.domain = domain
        self.folder = paths.registry(home) / domain.name

    def versions(self) -> list[Bundle]:
        """All whole bundles, oldest first."""
        folders = [(1, self.domain.models)]
        folders += [(int(path.name), path) for path in sorted(self.folder.glob("[0-9]*")) if path.name.isdigit()]
        return [self._read(number, path) for number, path in folders if (path / MANIFEST).is_file()]

    def aliases(self) -> dict[str, int]:
        """Alias -> version; the newest starter is champion until somebody says otherwise."""
        file = self.folder / "aliases.json"
        if file.is_file():
            return json.loads(file.read_text(encoding="utf-8"))
        return {"champion": 1} if (self.domain.models / MANIFEST).is_file() else {}

    def get(self, name: str = "champion") -> Bundle:
        """A bundle by alias, number or `domain@0007`; raises BundleError with what there is."""
        wanted = self.aliases().get(name) if name in ALIASES else name.rpartition("@")[2]
        for bundle in self.versions():
            if wanted is not None and str(wanted).isdigit() and bundle.version == int(wanted):
                return bundle
        known = ", ".join(bundle.name for bundle in self.versions()) or "none"
        raise BundleError(f"{self.domain.name} has no bundle {name!r} (there are: {known}); "
                          f"make one with `retune train {self.domain.name}`.")

    def publish(self, built: Path, manifest: dict[str, Any], target: Path | None = None) -> Bundle:
        """Move a built folder into the registry, or to `target`; the manifest is written last."""
        files = sorted(path for path in built.rglob("*") if path.is_file() and path.name != MANIFEST)
        manifest = manifest | {"files": {str(path.relative_to(built)): sha256(path) for path in files}}
        for path in files:
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / "registry.lock"):
            number = 1 if target else max([1, *(bundle.version for bundle in self.versions())]) + 1
            target = target or self.folder / f"{number:04}"
            scratch = built / f".{MANIFEST}"
            scratch.write_text(json.dumps(manifest, indent=1, sort_keys=True), encoding="utf-8")
            os.replace(scratch, built / MANIFEST)
            if target.exists():
                shutil.rmtree(target)
            shutil.copytree(built, target.with_name(f".{target.name}.new"), dirs_exist_ok=True)
            os.replace(target.with_name(f".{target.name}.new"), target)
            self._audit("publish", f"{self.domain.name}@{number:04}")
        return self._read(number, target)

    def set_champion(self, version: int, expected: int | None, reason: str) -> None:
        """Compare-and-swap of the champion alias, with an audit row; BundleError if somebody else was faster."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / "registry.lock"):
            aliases = self.aliases()
            if aliases.get("champion") != expected:
                raise BundleError(f"The champion is now {aliases.get('champion')}, not {expected}; look again and retry.")
            aliases |= {"champion": version} | ({"previous": expected} if expected else {})
            scratch = self.folder / ".aliases.json"
            scratch.write_text(json.dumps(aliases), encoding="utf-8")
            os.replace(scratch, self.folder / "aliases.json")
            self._audit("champion", f"{expected} -> {version}: {reason}")

    def _audit(self, what: str, detail: str) -> None:
        row = {"at": datetime.now(UTC).isoformat(), "what": what, "detail": detail}
        with (self.folder / "audit.jsonl").open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(row) + "\n")

    def _read(self, number: int, folder: Path) -> Bundle:
        try:
            manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        except ValueError as error:
            raise BundleError(f"{folder / MANIFEST} is damaged; restore it or delete {folder}.") from error
        return Bundle(self.domain.name, number, folder, manifest)
