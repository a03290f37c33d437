"""The CSV tables of a domain, read only.

Knows where they lie (`config["configurable"]["data"]`) and how a name is looked up through its
aliases. Does not know what any column means, and never writes.
"""

import csv
from functools import lru_cache
from pathlib import Path

from langchain_core.runnables import RunnableConfig

Row = dict[str, str]


def folder(config: RunnableConfig) -> Path:
    """The folder of CSVs that this turn's domain brought."""
    place = config.get("configurable", {}).get("data")
    assert place, f"a tool needs config['configurable']['data'], got {config.get('configurable')!r}"
    return Path(place)


def rows(config: RunnableConfig, name: str) -> tuple[Row, ...]:
    """Every row of `<data>/<name>.csv`; do not change them, they are shared."""
    path = folder(config) / f"{name}.csv"
    return read(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=64)
def read(path: Path, stamp: int) -> tuple[Row, ...]:
    """The rows of one file, kept until its time stamp changes."""
    with path.open(encoding="utf-8", newline="") as file:
        return tuple(csv.DictReader(file))


def find(config: RunnableConfig, name: str, wanted: str) -> Row | None:
    """The row whose `name`, or one of its `;`-separated `aliases`, is `wanted` in any case."""
    wanted = " ".join(wanted.split()).casefold()
    for row in rows(config, name):
        names = [row["name"], *row.get("aliases", "").split(";")]
        if wanted in (each.strip().casefold() for each in names):
            return row
    return None
