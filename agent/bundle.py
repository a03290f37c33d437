"""One bundle on disk: router and generator together, whole and unchanged. Knows files and hashes, not what they do.

Its manifest is written last and lists every other file; nothing is changed after that.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.aliases import read_json, sync
from agent.domain import Domain
from agent.errors import BundleError
from agent.models import BaseModel, sha256
from agent.prompt import prompt_hash

MANIFEST = "manifest.json"  # written last, so its existence means the bundle is whole


@dataclass(frozen=True, slots=True)
class Bundle:
    """One version of router and generator together."""

    domain: str
    version: int
    path: Path
    manifest: dict[str, Any]

    @classmethod
    def read(cls, domain: str, version: int, folder: Path) -> "Bundle":
        """The bundle in a folder; raises BundleError if its manifest is damaged."""
        manifest = read_json(folder / MANIFEST, f"restore it or delete {folder}")
        if not isinstance(manifest.get("files"), dict):
            raise BundleError(f"{folder / MANIFEST} is damaged; restore it or delete {folder}.")
        return cls(domain, version, folder, manifest)

    @property
    def name(self) -> str:
        """`domain@0007`."""
        return f"{self.domain}@{self.version:04}"

    @property
    def hash(self) -> str:
        """sha256 over its files' names and hashes: two bundles with one hash answer alike."""
        return self.manifest.get("content") or content_hash(self.manifest["files"])

    def part(self, name: str) -> Path | None:
        """Folder of `router` or `generator`, None if the manifest lists no file of it."""
        return self.path / name if any(file.startswith(f"{name}/") for file in self.manifest["files"]) else None

    def part_hash(self, name: str) -> str:
        """sha256 over the files of `router` or `generator`, as the manifest lists them: equal parts have equal ones."""
        return content_hash({file: digest for file, digest in self.manifest["files"].items() if file.startswith(f"{name}/")})

    def verify(self) -> None:
        """Raise BundleError unless every file is there and hashes to what the manifest says."""
        remedy = f"choose another version with `retune versions {self.domain}` or train a new one."
        if self.hash != content_hash(self.manifest["files"]):
            raise BundleError(f"Bundle {self.name}: {self.path / MANIFEST} was changed; {remedy}")
        for file, digest in self.manifest["files"].items():
            found = self.path / file
            if not found.is_file() or sha256(found) != digest:
                raise BundleError(f"Bundle {self.name}: {found} is damaged or missing; {remedy}")

    def check_fits(self, domain: Domain, encoder: BaseModel, generator: BaseModel | None) -> None:
        """Raise BundleError if the bundle was made on another base or with another prompt; None: its generator is not used."""
        wanted = {"encoder": encoder.fingerprint, "prompt": prompt_hash(domain)}
        wanted |= {"generator": generator.fingerprint} if generator else {}
        for what, value in wanted.items():
            if self.manifest.get(what) != value:
                raise BundleError(f"Bundle {self.name} was made for another {what}; run `retune train {domain.name}` "
                                  "or go back to the settings that it was made with.")


def write(built: Path, manifest: dict[str, Any], target: Path, earlier: Iterable[Bundle]) -> None:
    """Copy a built folder to `target`: whole and on the disk before it bears that name.

    A file that one of the `earlier` bundles has too is a hard link to that one where the disk allows it.
    """
    files = sorted(path for path in built.rglob("*") if path.is_file() and path != built / MANIFEST)
    hashes = {path.relative_to(built).as_posix(): sha256(path) for path in files}
    manifest = manifest | {"files": hashes, "content": content_hash(hashes)}
    twins = {digest: bundle.path / file for bundle in earlier for file, digest in bundle.manifest["files"].items()}
    scratch = target.with_name(f".{target.name}.new")
    if scratch.exists():  # of a publisher that died
        shutil.rmtree(scratch)
    scratch.mkdir(parents=True)
    for file, digest in hashes.items():
        (scratch / file).parent.mkdir(parents=True, exist_ok=True)
        _place(built / file, scratch / file, digest, twins.get(digest))
    (scratch / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True), encoding="utf-8")
    (scratch / MANIFEST).chmod(0o444)
    for path in (*scratch.rglob("*"), scratch):
        sync(path)
    old = target.with_name(f".{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():  # a starter that is made anew
        os.replace(target, old)
    os.replace(scratch, target)
    sync(target.parent)
    shutil.rmtree(old, ignore_errors=True)


def content_hash(files: dict[str, str]) -> str:
    """sha256 over the sorted names and hashes of a bundle's files."""
    return hashlib.sha256(json.dumps(sorted(files.items())).encode()).hexdigest()


def _place(source: Path, target: Path, digest: str, twin: Path | None) -> None:
    if twin and twin.is_file() and sha256(twin) == digest:
        with suppress(OSError):  # another file system, or one without links
            os.link(twin, target)
            return
    shutil.copyfile(source, target)
