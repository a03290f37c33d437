"""The hand-off desk behind its screen: who waits, who has whom, taking, answering, giving back. Everything here blocks.

Knows the store; knows no widget. What this desk has taken goes back when it closes.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from agent.errors import DataError, RetuneError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.agent import Agent
    from agent.store import Store


@dataclass
class HandoffDesk:
    """One person at the desk."""

    store: "Store"
    author: str
    agents: "Mapping[str, Agent]" = field(default_factory=dict)
    """Loaded ones by their domain's name: they know which private value a mark stands for."""
    held: set[str] = field(default_factory=set)
    """Turns that were taken here."""
    answered: list[str] = field(default_factory=list)
    """Turns that were answered here, the newest last."""

    def waiting(self) -> list[dict[str, Any]]:
        """Hand-offs that wait or are taken, oldest first, as `Store.handoffs` gives them."""
        found = self.store.handoffs("waiting") + self.store.handoffs("taken")
        return sorted(found, key=lambda each: (each["created"], each["turn"]))

    def conversation(self, handoff: dict[str, Any]) -> list[dict[str, Any]]:
        """All of it, in every domain that took part, oldest first; as `Store.conversation` gives turns."""
        from agent.surfaces.tui.talk import turns_of

        return turns_of(self.store, handoff["session"], handoff["domain"])

    def take(self, turn: str) -> None:
        """DataError names who has it where that is somebody else."""
        self.store.take(turn, self.author)
        self.held.add(turn)

    def release(self, turn: str) -> None:
        """Let it wait again, whoever has it."""
        self.store.release(turn)
        self.held.discard(turn)

    def answer(self, handoff: dict[str, Any], text: str) -> None:
        """Keep the answer as this person's reply: it becomes a correction. DataError where somebody else has it by now."""
        from agent import teaching

        turn, domain = handoff["turn"], handoff["domain"]
        self.store.take(turn, self.author)  # somebody may have let it wait again, and somebody else have taken it
        if domain in self.agents:
            self.agents[domain].feedback(turn, "reply", self.author, text)
        else:
            teaching.teach(self.store, turn, "reply", self.author, text, domain=domain)
        self.held.discard(turn)
        self.answered.append(turn)

    def undo(self) -> str:
        """Take the last answer back and give its turn, which waits for this person again. DataError if there is none."""
        if not self.answered:
            raise DataError("Nothing was answered here yet.")
        turn = self.answered[-1]
        self.store.retract(turn, self.author, "reply")
        self.answered.pop()
        if any(each["turn"] == turn and each["by"] == self.author for each in self.store.handoffs("taken")):
            self.held.add(turn)
        return turn

    def close(self) -> None:
        """What was taken here waits for others again."""
        for turn in list(self.held):
            try:
                self.store.release(turn, self.author)
            except RetuneError:
                continue  # it was forgotten meanwhile, or the database is gone: whoever comes next lets it wait again
            self.held.discard(turn)


def since(created: str, now: datetime | None = None) -> str:
    """How long ago that was, in the largest unit that fits: `12 min`."""
    at = datetime.fromisoformat(created)
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    minutes = max(0, int(((now or datetime.now(UTC)) - at).total_seconds() // 60))
    if minutes < 60:
        return f"{minutes} min" if minutes else "now"
    return f"{minutes // 60} h" if minutes < 48 * 60 else f"{minutes // (24 * 60)} d"
