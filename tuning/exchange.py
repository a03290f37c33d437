"""Feedback out to a file and back in, as JSON lines or Parquet: what is on paper elsewhere becomes feedback here.

Knows files and their mistakes; what may be said about a turn is `agent.teaching`'s business. An import is one
transaction: with one bad line nothing is written, and the good rows are kept aside until somebody asks for them.
"""

import hashlib
import json
import os
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from agent import teaching
from agent.connections import clean
from agent.domain import Domain
from agent.errors import DataError
from agent.redact import Redactor
from agent.schema import feedback, forgotten, handoffs, turns
from agent.store import Store

COLUMNS = ("turn", "session", "domain", "question", "reply", "bundle", "intent", "kind", "value", "author", "created")
"""Of an export, all of them texts; `intent` is what the router saw. An import reads turn, kind, author, value, created."""
ENDINGS = (".jsonl", ".parquet")


@dataclass(frozen=True, slots=True)
class Bad:
    """A line that was not taken, and why."""

    line: int
    """From 1; in Parquet the number of the row."""
    reason: str


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did."""

    file: Path
    good: int
    """Rows that can be imported."""
    bad: tuple[Bad, ...] = ()
    forgotten: int = 0
    """Rows of people who asked to be forgotten; left out."""
    done: dict[str, int] = field(default_factory=dict)
    """Rows "written", "unchanged" and "older" than what the author says now."""
    refused: bool = False
    """Whether nothing was imported, as some line is bad."""
    kept_aside: Path | None = None
    """Where the good rows of a refused file wait."""

    def table(self) -> dict[str, Any]:
        """As plain data, for JSON."""
        return {"file": str(self.file), "good": self.good, "forgotten": self.forgotten, "done": self.done,
                "refused": self.refused, "bad": [asdict(bad) for bad in self.bad],
                "kept_aside": self.kept_aside and str(self.kept_aside)}


def taught(store: Store, domain: str, limit: int | None = None) -> list[dict[str, Any]]:
    """All feedback on a domain's turns with what it is about, by COLUMNS; oldest first, or the newest `limit` of it."""
    columns = [feedback.c[name] if name in ("kind", "value", "author", "created") else
               turns.c.id.label("turn") if name == "turn" else turns.c[name] for name in COLUMNS]
    order = [feedback.c.created, feedback.c.turn, feedback.c.author, feedback.c.kind]
    query = sa.select(*columns).join(turns, turns.c.id == feedback.c.turn).where(turns.c.domain == domain)
    query = query.order_by(*order) if limit is None else query.order_by(*(each.desc() for each in order)).limit(limit)
    with store.reading() as at:
        rows = [dict(row) for row in at.execute(query).mappings()]
    return rows if limit is None else rows[::-1]


def export_feedback(store: Store, domain: Domain, to: Path) -> int:
    """Write all feedback on the domain's turns to `to`, whole or not at all; returns the number of rows."""
    _ending(to)
    rows = taught(store, domain.name)
    _write(rows, to)
    return len(rows)


def import_feedback(store: Store, domain: Domain, file: Path, keep_aside: Path, good: bool = False) -> Imported:
    """Read feedback from a file; a second time changes nothing.

    If any line is bad, nothing is imported and the good rows go to a file in the folder `keep_aside`, which can be
    imported by itself; with `good` they are imported and the bad ones are left out. `created` is kept where the file has
    it, and an author's later word stays. DataError if the file cannot be read at all.
    """
    lines = list(_read(file))
    held = _known(store, [row.get("turn") for _, row in lines if isinstance(row, dict)])
    rows, bad, now = {}, {}, datetime.now(UTC)
    for line, row in lines:
        try:
            rows[line] = _row(row, held, domain, now)
        except DataError as error:
            bad[line] = str(error)
    bad |= _contradictions(rows)
    gone = _forgotten(store)
    fine = [row for line, row in rows.items() if line not in bad]
    kept = [row for row in fine if teaching.forgotten_key(row["author"]) not in gone]
    found = tuple(Bad(line, bad[line]) for line in sorted(bad))
    if not found or good:
        return Imported(file, len(kept), found, len(fine) - len(kept), dict(store.feedback_all(kept)))
    # named by what is in it, so that it never takes the place of another file
    digest = hashlib.sha256(json.dumps(kept).encode()).hexdigest()[:8]
    aside = keep_aside / f"{file.stem}.good-{digest}{file.suffix.lower()}" if kept else None
    if aside:
        _write(kept, aside)
    return Imported(file, len(kept), found, len(fine) - len(kept), refused=True, kept_aside=aside)


def _row(row: Any, held: dict[str, dict[str, Any]], domain: Domain, now: datetime) -> dict[str, Any]:
    """The row as it is to be written, its words redacted; DataError says what is wrong with it."""
    if isinstance(row, DataError):
        raise row
    if not isinstance(row, dict):
        raise DataError('It is no object; write {"turn": ..., "kind": ..., "author": ..., "value": ...}.')
    for name in ("turn", "kind", "author"):
        if row.get(name) is None:
            raise DataError(f"It has no {name!r}; add it.")
    for name in ("turn", "kind", "author", "value", "created"):
        if not isinstance(row.get(name, ""), str | None):
            raise DataError(f"Its {name!r} is {row[name]!r}; it must be a text.")
    row = clean(row)
    turn_id, kind, value = row["turn"], row["kind"], row.get("value") or None
    turn = held.get(turn_id)
    if turn is None:
        raise DataError(teaching.unknown_turn(turn_id))
    if turn["domain"] != domain.name:
        raise DataError(f"Turn {turn_id!r} belongs to the domain {turn['domain']!r}, not to {domain.name!r}.")
    teaching.check(kind, value, domain.intents)
    if kind == "reply" and not turn["handed_off"]:
        raise DataError(teaching.not_handed_off(turn_id))
    return {"turn": turn_id, "kind": kind, "value": teaching.redacted(kind, value, turn, Redactor()),
            "author": row["author"], "created": _moment(row.get("created"), now)}


def _moment(created: str | None, now: datetime) -> str | None:
    """ISO text in UTC, as the store writes it; never later than now, or nobody could take it back."""
    if not created:
        return None
    try:
        said = datetime.fromisoformat(created)
    except ValueError as error:
        raise DataError(f"Its 'created' is {created!r}; write it as 2026-01-31T12:00:00+00:00 or leave it out.") from error
    said = said.replace(tzinfo=UTC) if said.tzinfo is None else said
    return min(said.astimezone(UTC), now).isoformat(timespec="microseconds")


def _contradictions(rows: dict[int, dict[str, Any]]) -> dict[int, str]:
    """Line -> reason, for every line of an author who says up and down, or two labels, about one turn."""
    said: dict[tuple[str, ...], dict[tuple[str, str | None], int]] = {}
    about: dict[int, tuple[str, ...]] = {}
    for line, row in rows.items():
        if row["kind"] in teaching.OPPOSITES:
            both = sorted((row["kind"], teaching.OPPOSITES[row["kind"]]))
            about[line] = (row["turn"], row["author"], *both)
            said.setdefault(about[line], {}).setdefault((row["kind"], row["value"]), line)
    found = {}
    for line, key in about.items():
        own = (rows[line]["kind"], rows[line]["value"])
        if others := [(saying, at) for saying, at in said[key].items() if saying != own]:
            (kind, value), at = others[0]
            found[line] = (f"{key[1]!r} says {' '.join(filter(None, own))} here and {' '.join(filter(None, (kind, value)))} in "
                           f"line {at} about the same turn; keep one of them.")
    return found


def _known(store: Store, ids: Iterable[Any]) -> dict[str, dict[str, Any]]:
    """Id -> {"domain", "question", "reply", "handed_off"} of the turns that are there."""
    wanted, found = sorted({id for id in ids if isinstance(id, str)}), {}
    query = sa.select(turns.c.id, turns.c.domain, turns.c.question, turns.c.reply, handoffs.c.turn.label("handed_off"))
    query = query.outerjoin(handoffs, handoffs.c.turn == turns.c.id)
    with store.reading() as at:
        for begin in range(0, len(wanted), 500):
            for row in at.execute(query.where(turns.c.id.in_(wanted[begin:begin + 500]))).mappings():
                found[row["id"]] = dict(row)
    return found


def _forgotten(store: Store) -> Collection[str]:
    with store.reading() as at:
        return set(at.execute(sa.select(forgotten.c.key)).scalars())


def _read(file: Path) -> Iterator[tuple[int, Any]]:
    """(line number, row); a line that is no JSON is a DataError in place of its row."""
    if not file.is_file():
        raise DataError(f"{file} is missing; name a file with feedback.")
    if _ending(file) == ".parquet":
        yield from enumerate(_read_parquet(file), start=1)
        return
    try:
        data = file.read_bytes()
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error}).") from error
    for line, said in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if said.strip():
            yield line, _parsed(said)


def _parsed(said: bytes) -> Any:
    try:
        return json.loads(said.decode("utf-8"))
    except UnicodeDecodeError as error:
        return DataError(f"It is not UTF-8 ({error.reason} at byte {error.start}); save the file as UTF-8.")
    except json.JSONDecodeError as error:
        return DataError(f"It is not valid JSON ({error.msg} at sign {error.pos + 1}); correct it.")
    except (RecursionError, ValueError) as error:  # nested too deep, a number of thousands of digits
        return DataError(f"It cannot be read as JSON ({error}); correct it.")


def _read_parquet(file: Path) -> list[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as stored:  # one file by itself: the folder's name must not become a column
            return [row | {"created": _text(row.get("created"))} for row in stored.read().to_pylist()]
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{file} cannot be read as Parquet ({' '.join(str(error).split())}); write it again.") from error


def _text(created: Any) -> Any:
    """Other programs write times as times."""
    return created.isoformat() if isinstance(created, datetime) else created


def _write(rows: list[dict[str, Any]], to: Path) -> None:
    """Beside its place, then moved there, so that a file of this name is always whole."""
    fresh = to.with_name(f".{to.name}.new")
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        if _ending(to) == ".parquet":
            _write_parquet(rows, fresh)
        else:
            text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            fresh.write_text(text, encoding="utf-8", newline="\n")
        with fresh.open("rb+") as stream:
            os.fsync(stream.fileno())
        os.replace(fresh, to)
    except OSError as error:
        with suppress(OSError):
            fresh.unlink(missing_ok=True)
        raise DataError(f"{to} cannot be written ({error}); choose another place.") from error


def _write_parquet(rows: list[dict[str, Any]], to: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = [name for name in COLUMNS if not rows or name in rows[0]]
    pq.write_table(pa.Table.from_pylist(rows, schema=pa.schema([(name, pa.string()) for name in names])), to)


def _ending(file: Path) -> str:
    if file.suffix.lower() not in ENDINGS:
        raise DataError(f"{file} ends in {file.suffix or 'nothing'!r}; name a file that ends in {' or '.join(ENDINGS)}.")
    return file.suffix.lower()
