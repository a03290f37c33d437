"""An audit chain: JSON lines, each holding the hash of the line before. Knows rows and hashes, not what they are about.

A row is {"at", "what", "detail", "by", "prev", "hash"}; `hash` is the sha256 of the row without it, `prev` the hash of the row
before ("" for the first). A changed, removed or added row breaks the chain at that line. What the chain cannot know by itself
is that its newest rows were cut off: the registry keeps the newest row of its aliases in the alias file too. One writer at a
time: whoever calls holds the lock of what the chain is about.
"""

import hashlib
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

Row = dict[str, Any]
FROM_HERE = "from_here"  # the first row of a chain that goes on from lines of before there were hashes
TORN = "torn"


class Chain:
    """`row` makes the next row, `add` puts it on the disk; `mend` first, for a writer may have died in the middle of a line."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def rows(self) -> list[Row]:
        """Every line that can be read, oldest first."""
        return [row for line in _lines(self.file) if (row := _parse(line)) is not None]

    def row(self, what: str, detail: Any, by: str) -> Row:
        """The next row, not yet written; `detail` is plain JSON."""
        hashed = [row["hash"] for row in self.rows() if "hash" in row]
        made = {"at": datetime.now(UTC).isoformat(timespec="microseconds"), "what": what, "detail": detail, "by": by,
                "prev": hashed[-1] if hashed else ""}
        return made | {"hash": digest(made)}

    def add(self, row: Row) -> None:
        """Append; on the disk when it returns."""
        with self.file.open("ab") as stream:
            stream.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
            stream.flush()
            os.fsync(stream.fileno())

    def mend(self, pending: Row | None = None) -> None:
        """Put right what a writer left who died: a line cut short goes into a file beside the chain and a row says so.

        `pending`: a row that took effect elsewhere; it is added unless it is here or does not follow the last row.
        """
        self._cut()
        known = self.rows()
        if known and not any("hash" in row for row in known):
            self.add(self.row(FROM_HERE, _old(_lines(self.file)), "retune"))
        if pending and pending["hash"] not in {row.get("hash") for row in known}:
            if pending["prev"] == self.row("", None, "")["prev"]:
                self.add(pending)
        told = {row["detail"] for row in known if row.get("what") == TORN}
        for aside in sorted(self.file.parent.glob(f"{self.file.name}.torn-*")):
            if aside.name not in told:
                self.add(self.row(TORN, aside.name, "retune"))

    def _cut(self) -> None:
        """Move a last line without its end aside; a whole one gets its end."""
        content = self.file.read_bytes() if self.file.is_file() else b""
        whole, end, last = content.rpartition(b"\n")
        if not last:
            return
        if _parse(last) is not None:
            with self.file.open("ab") as stream:
                stream.write(b"\n")
            return
        aside = self.file.with_name(f"{self.file.name}.torn-{hashlib.sha256(last).hexdigest()[:8]}")
        with aside.open("wb") as stream:
            stream.write(last)
            stream.flush()
            os.fsync(stream.fileno())
        os.truncate(self.file, len(whole + end))


def digest(row: Row) -> str:
    """sha256 over a row without its `hash`, keys sorted."""
    told = {key: value for key, value in row.items() if key != "hash"}
    return hashlib.sha256(json.dumps(told, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def verify(file: Path) -> list[str]:
    """What is wrong with a chain, a sentence each, the first broken row first; empty when it holds. Changes nothing."""
    problems: list[str] = []
    prev, lines = None, _lines(file)
    for number, line in enumerate(lines, start=1):
        row, place = _parse(line), f"{file.name}, line {number}"
        if row is None:
            torn = number == len(lines) and not line.endswith(b"\n")
            problems.append(f"{place} was cut short while it was written." if torn else f"{place} cannot be read.")
        elif "hash" not in row:
            if prev is not None:
                problems.append(f"{place} ({row.get('what')}) has no hash: it was put in or changed.")
        else:
            if row["hash"] != digest(row):
                problems.append(f"{place} ({row.get('what')}, {row.get('at')}) was changed after it was written.")
            elif row.get("prev") != (prev or ""):
                problems.append(f"{place} ({row.get('what')}, {row.get('at')}) does not follow the line before: "
                                "a row was removed or put in.")
            elif prev is None and number > 1 and (row["what"], row["detail"]) != (FROM_HERE, _old(lines[:number - 1])):
                problems.append(f"{place}: the lines before it are not those that it goes on from.")
            prev = row["hash"]
    return problems


def _old(lines: list[bytes]) -> dict[str, Any]:
    return {"rows": len(lines), "sha256": hashlib.sha256(b"".join(lines)).hexdigest()}


def _lines(file: Path) -> list[bytes]:
    """With their ends; only "\\n" ends one, as a reason may hold U+2028."""
    if not file.is_file():
        return []
    *whole, rest = file.read_bytes().split(b"\n")
    return [line + b"\n" for line in whole] + ([rest] if rest else [])


def _parse(line: bytes) -> Row | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None
