"""An index that needs no model: it finds the same passages for everything."""

from collections.abc import Sequence
from concurrent.futures import Future

from agent.types import Passage


class Articles:
    """Stands in for `agent.retrieve.Index`."""

    quick = True

    def __init__(self, passages: Sequence[Passage]) -> None:
        self.passages = tuple(passages)

    def ahead(self, question: str) -> Future[None]:
        """No vector is needed."""
        done: Future[None] = Future()
        done.set_result(None)
        return done

    def search(self, question: str, count: int, vector: None = None) -> list[Passage]:
        """The first passages, whatever was asked."""
        return list(self.passages[:count])

    def sure(self, question: str, vector: None = None) -> None:
        """Never sure."""
        return None
