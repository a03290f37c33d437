"""One conversation: which agent answers a message, and under which session it is kept. Knows no widget.

A conversation with several domains is one session in each of them, `BASE-DOMAIN`, as in the line chat.
"""

import uuid
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agent.agent import Agent
    from agent.store import Store
    from agent.types import Turn


class Talk:
    """A conversation with `domains`; `only` settles one of them."""

    def __init__(self, domains: Sequence[str], base: str | None = None, only: str | None = None,
                 session: str | None = None) -> None:
        self.domains, self.only = list(domains), only
        self.base = base or uuid.uuid4().hex
        self._session = session  # one that was not begun here has a name of its own
        self.current: str | None = None  # the domain of the last answer

    @property
    def wanted(self) -> list[str]:
        """The domains that have to be loaded before a message can be answered."""
        return [self.only] if self.only else self.domains

    def session(self, domain: str) -> str:
        """The session's id in that domain."""
        return self._session or f"{self.base}-{domain}"

    def sessions(self) -> list[str]:
        """All ids under which the conversation may be kept."""
        if self._session:
            return [self._session]
        return [self.session(name) for name in dict.fromkeys((*self.domains, *self.wanted))]

    def choose(self, text: str, agents: "Mapping[str, Agent]") -> "Agent":
        """The agent that the message belongs to; blocks for some milliseconds. `agents`: those of `wanted`, by that name."""
        from agent.front import Front

        if len(self.wanted) == 1:
            return agents[self.wanted[0]]
        return agents[Front({name: agents[name] for name in self.wanted}).pick(text, self.base, self.current)]


def base_of(row: "Mapping[str, Any]") -> str:
    """The conversation that a session's row belongs to: its id without `-DOMAIN`."""
    return row["id"].removesuffix(f"-{row['domain']}")


def resumed(row: "Mapping[str, Any]", domains: Sequence[str]) -> Talk:
    """The conversation of a session's row, to go on with."""
    base = base_of(row)
    if base == row["id"]:
        return Talk(domains, base, row["domain"], row["id"])
    return Talk(domains, base, None if row["domain"] in domains and len(domains) > 1 else row["domain"])


def turns_of(talk: Talk, store: "Store") -> list[dict[str, Any]]:
    """The conversation's turns over all its domains, oldest first, as `Store.conversation` gives them."""
    rows = [row for session in talk.sessions() for row in store.conversation(session)]
    return sorted(rows, key=lambda row: (row["created"], row["seq"]))


def row_of(turn: "Turn", reply: str) -> dict[str, Any]:
    """A turn as the store's row names things; `passages` are ids, `reply` is what the person saw."""
    names = "id session domain bundle intent state slots tool tool_arguments tool_result abstained timings_ms engine "
    row = {name: getattr(turn, name) for name in (names + "prompt_tokens tokens").split()}
    route = turn.route
    return row | {"question": turn.question, "reply": reply, "flags": list(turn.flags), "feedback": [],
                  "passages": [passage.id for passage in turn.passages], "confidence": route.confidence if route else None,
                  "oos": route.oos if route else None, "ranking": list(route.ranking) if route else []}
