"""The line about what serves: what is being loaded, what waits to be sent, what made the last answer."""

from typing import Any

from textual.widgets import Static


class Status(Static):
    """`tell` writes the line anew."""

    def tell(self, progress: str, row: dict[str, Any], loaded: dict[str, Any], wanted: list[str], failed: set[str],
             waiting: bool = False) -> None:
        """`progress`: of loading; `row`: the last answered turn; `loaded`: agents by name; `waiting`: text to be sent."""
        said = "sent when this answer is written; Esc stops it" if waiting else progress
        said = said or served(row) or ready(loaded, wanted, failed)
        if said != self.content:
            self.update(said, layout=False)  # one line always: nothing else has to move


def ready(loaded: dict[str, Any], wanted: list[str], failed: set[str]) -> str:
    """What can answer."""
    if lost := [name for name in wanted if name in failed]:
        return f"could not be loaded: {', '.join(lost)}; a message tries again"
    there = [loaded[name].serving.bundle.name for name in wanted if name in loaded]
    return "ready: " + " · ".join(there) if len(there) == len(wanted) else f"loading {len(there) + 1} of {len(wanted)} …"


def served(row: dict[str, Any]) -> str:
    """Bundle, engine, tokens and time to the first word of a turn; empty without one."""
    if not row:
        return ""
    times = row["timings_ms"]
    first = times.get("first_word", times.get("total", 0)) / 1000
    tokens = f"{row['prompt_tokens']} + {row['tokens']} tokens" if row["engine"] else ""
    parts = [row["bundle"], row["engine"], tokens, f"{first:.2f} s to the first word"]
    return " · ".join(part for part in parts if part)
