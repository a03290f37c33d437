"""What rows of people leave in files below the home: exports, rows kept aside, shadow logs, unfinished trainings, the journal.

Knows files alone; whose rows they are is asked of `theirs`, and who is to be forgotten is `tuning.forget`'s business.
"""

import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from agent import paths
from agent.conversations import forget_words
from agent.errors import DataError
from agent.store import Store

SKIPPED = ("models", "index", "registry", "training", "tools")
"""Folders of the home whose files hold no rows with an author or a turn; of `training` whole folders go."""
Theirs = Callable[[dict[str, Any]], bool]
"""Whether a row of a file is to go."""


def clean_files(home: Path, theirs: Theirs, dry_run: bool = False) -> dict[str, int]:
    """Take rows out of every JSON-lines and Parquet file of the home; file -> rows that went.

    Each file is replaced whole. DataError for one that cannot be.
    """
    found = {}
    for file in _files(home):
        try:
            count = (_clean_lines if file.suffix == ".jsonl" else _clean_parquet)(file, theirs, dry_run)
        except OSError as error:
            raise DataError(f"{file} cannot be cleaned ({error.strerror}), so the database was left as it is; give yourself "
                            "permission for the file and its folder, then forget again.") from error
        if count:
            found[str(file)] = count
    return found


def drop_trainings(home: Path, domains: Iterable[str], dry_run: bool = False) -> list[str]:
    """Delete the unfinished trainings of these domains, as nobody can tell whose rows they hold; their folders' names."""
    found = [folder for domain in sorted(domains) for folder in sorted(paths.training(home).glob(f"{domain}-*"))
             if folder.is_dir() and re.fullmatch("[0-9a-f]{16}", folder.name.removeprefix(f"{domain}-"))]
    for folder in found if not dry_run else []:
        try:
            shutil.rmtree(folder)
        except OSError as error:
            raise DataError(f"{folder} cannot be deleted ({error.strerror}), so the database was left as it is; delete it, "
                            "then forget again.") from error
    return [folder.name for folder in found]


def wipe(store: Store) -> bool | None:
    """Write the database anew, so that neither the search, nor a free page, nor the journal holds what was deleted.

    False: another program is reading just now, so the journal could not be emptied. None: not SQLite; PostgreSQL's
    autovacuum sees to it.
    """
    if not store.path:
        return None
    with store.writing() as at:
        forget_words(at)
        at.exec_driver_sql("COMMIT")  # neither of the two works in a transaction, but both want the writers' lock
        at.exec_driver_sql("VACUUM")
        return at.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").scalar_one() == 0


def _files(home: Path) -> Iterator[Path]:
    for top in sorted(home.iterdir()) if home.is_dir() else []:
        if top.name not in SKIPPED:
            yield from (file for file in (sorted(top.rglob("*")) if top.is_dir() else [top])
                        if file.suffix in (".jsonl", ".parquet") and file.is_file())


def _clean_lines(file: Path, theirs: Theirs, dry_run: bool) -> int:
    lines = file.read_bytes().splitlines(keepends=True)
    kept = [line for line in lines if not _says(line, theirs)]
    if len(kept) < len(lines) and not dry_run:
        fresh = file.with_name(f".{file.name}.new")
        fresh.write_bytes(b"".join(kept))
        os.replace(fresh, file)
    return len(lines) - len(kept)


def _says(line: bytes, theirs: Theirs) -> bool:
    try:
        row = json.loads(line)
    except ValueError:  # no row of ours
        return False
    return isinstance(row, dict) and theirs(row)


def _clean_parquet(file: Path, theirs: Theirs, dry_run: bool) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as stored:
            table = stored.read()
    except pa.ArrowException:  # no table
        return 0
    kept = [not theirs(row) for row in table.to_pylist()]
    if not all(kept) and not dry_run:
        fresh = file.with_name(f".{file.name}.new")
        pq.write_table(table.filter(pa.array(kept)), fresh)
        os.replace(fresh, file)
    return kept.count(False)
