"""Conversations written to files in the working directory; never over one that is there."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.store import Store


def export(store: "Store", sessions: Sequence[str]) -> list[str]:
    """Write each session that has turns as Markdown; the files' names."""
    from agent.surfaces.exporting import to_markdown

    names = []
    for session in sessions:
        if turns := store.conversation(session):
            day, words = turns[0]["created"][:10], re.findall(r"\w+", turns[0]["question"].lower())[:6]
            names.append(_write(f"retune-{day}-{turns[0]['domain']}-{'-'.join(words)}"[:80], to_markdown(store, session)))
    return names


def _write(name: str, text: str) -> str:
    for number in range(1, 1000):
        file = Path(f"{name}.md" if number == 1 else f"{name}-{number}.md")
        try:
            with file.open("x", encoding="utf-8") as out:
                out.write(text)
            return file.name
        except FileExistsError:
            continue
    raise FileExistsError(f"{name}.md and 998 more are there already; move them away.")
