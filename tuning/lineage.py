"""What a bundle learned, row by row: a file beside its parts, and the way back from it to turns and people.

Names rows, turns and authors, never what was said: words stay in the store, where they can be deleted.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from agent.errors import BundleError
from agent.registry import Bundle
from tuning.rows import Row

FILE = "lineage.jsonl"


def write(folder: Path, rows: Iterable[Row]) -> None:
    """One line for each row learned from people: {"row": Row.id, "part", "signal", "turn", "author", "weight"}."""
    lines = [{"row": row.id, "part": row.part, "signal": row.signal, "turn": row.turn, "author": row.author,
              "weight": row.weight} for row in rows if row.signal != "seed"]
    (folder / FILE).write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")


def read(bundle: Bundle) -> list[dict[str, Any]]:
    """The lines that `write` left in the bundle; none where it learned from its domain's files alone.

    Raises BundleError where a line cannot be read.
    """
    file = bundle.path / FILE
    if not file.is_file():
        return []
    try:
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    except ValueError as error:
        raise BundleError(f"{bundle.name}: {FILE} cannot be read ({error}); look with `retune audit`, then retrain.") from error
