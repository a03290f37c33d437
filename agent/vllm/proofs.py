"""Which adapters were proved on which server, for the next process: a canary reads some hundred tokens, seconds on a CPU.

A proof holds for one life of the server, told by the start time in its metrics. Knows files, not how a proof is made.
"""

import json
import os
import tempfile
from contextlib import suppress
from pathlib import Path


class Proofs:
    """One small JSON file: {url: {"started": seconds, "proved": [names]}}; `Proofs(None)` remembers nothing."""

    def __init__(self, file: Path | None) -> None:
        self.file = file

    def of(self, url: str, started: float) -> set[str]:
        """Names that were proved in this life of the server; none if its start is unknown (0)."""
        said = self._read().get(url, {})
        return set(said.get("proved", ())) if started and said.get("started") == started else set()

    def add(self, url: str, started: float, name: str) -> None:
        """Remember one more. A write that is lost to another process costs a canary, nothing else."""
        if self.file is None or not started:
            return
        table = self._read() | {url: {"started": started, "proved": sorted(self.of(url, started) | {name})}}
        with suppress(OSError):  # a full disk keeps nobody from answering
            self.file.parent.mkdir(parents=True, exist_ok=True)
            handle, scratch = tempfile.mkstemp(dir=self.file.parent, prefix=".proofs-")
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                json.dump(table, stream)
            os.replace(scratch, self.file)

    def forget(self, url: str) -> None:
        """Nothing that was proved on this server holds any more."""
        if self.file is not None and url in (table := self._read()):
            del table[url]
            with suppress(OSError):
                self.file.write_text(json.dumps(table), encoding="utf-8")

    def _read(self) -> dict:
        try:
            table = json.loads(self.file.read_text(encoding="utf-8")) if self.file else {}
        except (OSError, ValueError):
            return {}
        return table if isinstance(table, dict) else {}
