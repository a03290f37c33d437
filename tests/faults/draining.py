"""A server on a stub agent, in a process of its own, for tests that end it: `draining.py HOME GRACE`.

Its answers stop in the middle while the file HOME/held is there.
"""

import asyncio
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent.parent), str(Path(__file__).parent.parent.parent)]

from webapp import Typist, agent_of, fresh_home  # noqa: E402

from agent.surfaces.http.app import make_app  # noqa: E402
from agent.surfaces.serve import run  # noqa: E402


class Held(Typist):
    """Held by a file."""

    @property
    def held(self) -> bool:  # type: ignore[override]
        """Whether it is there."""
        return (home / "held").exists()

    @held.setter
    def held(self, value: bool) -> None:
        pass


home = Path(sys.argv[1])
agent = agent_of(fresh_home(home), Held())
cut_off = asyncio.run(run(make_app([agent]), "127.0.0.1", 0, int(sys.argv[2])))
agent.close()
print(f"cut off: {cut_off}", flush=True)
