"""The alias file: which version is champion, challenger, previous, and which takes a share as canary.

It is the one truth about them. It also holds the audit row of the change that made it, so that one `os.replace` commits the
change and its row together: a writer killed after it leaves the row for the next one to add to the chain (`Chain.mend`), one
killed before it has changed nothing. No order of two files could promise that to readers, who take no lock.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.audit import Row
from agent.errors import BundleError

NAMES = ("champion", "challenger", "previous")


@dataclass(frozen=True, slots=True)
class Canary:
    """A version that some sessions get, or that only watches (`shadow`) while the champion answers them."""

    version: int
    share: float
    """Of the sessions, above 0 and at most 1."""
    shadow: bool = False

    def table(self) -> dict[str, Any]:
        """As plain data."""
        return {"version": self.version, "share": self.share, "shadow": self.shadow}


@dataclass(frozen=True, slots=True)
class Aliases:
    """What the file says."""

    names: dict[str, int] = field(default_factory=dict)
    canary: Canary | None = None
    row: Row | None = None
    """The audit row of the change that made it; None in a file of before there were rows."""

    def table(self) -> dict[str, Any]:
        """Without the row, as it stands in an audit row."""
        return self.names | ({"canary": self.canary.table()} if self.canary else {})


def read(file: Path) -> Aliases:
    """The aliases; empty if there is no file, BundleError if it is damaged."""
    if not file.is_file():
        return Aliases()
    table = read_json(file, "delete it to go back to the starter bundle, then promote the version that you want")
    names, row, canary = {name: table[name] for name in NAMES if name in table}, table.get("row"), table.get("canary")
    sound = all(type(version) is int for version in names.values()) and (row is None or _is_row(row))
    if not sound or not (canary is None or _is_canary(canary)):
        raise BundleError(f"{file} is damaged; each alias must name the number of a version. "
                          "Delete it to go back to the starter bundle, then promote the version that you want.")
    return Aliases(names, Canary(**canary) if canary else None, row)


def write(file: Path, aliases: Aliases) -> None:
    """Replace the file whole; on the disk when it returns."""
    scratch = file.with_name(f".{file.name}")
    scratch.write_text(json.dumps(aliases.table() | {"row": aliases.row}), encoding="utf-8")
    sync(scratch)
    os.replace(scratch, file)
    sync(file.parent)


def read_json(file: Path, remedy: str) -> dict[str, Any]:
    """An object from a JSON file; BundleError with the remedy if it holds none."""
    try:
        table = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BundleError(f"{file} is damaged; {remedy}.") from error
    if not isinstance(table, dict):
        raise BundleError(f"{file} is damaged; {remedy}.")
    return table


def sync(path: Path) -> None:
    """On the disk, not only on its way there; a folder too."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_row(row: Any) -> bool:
    return isinstance(row, Mapping) and isinstance(row.get("hash"), str) and isinstance(row.get("prev"), str)


def _is_canary(table: Any) -> bool:
    return (isinstance(table, Mapping) and set(table) == {"version", "share", "shadow"} and type(table["version"]) is int
            and isinstance(table["share"], int | float) and 0 < table["share"] <= 1 and isinstance(table["shadow"], bool))
