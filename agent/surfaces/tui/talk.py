"""One conversation: which agent answers a message, and under which session it is kept. Knows no widget.

A conversation with several domains is one session in each of them, `BASE-DOMAIN`, as in the line chat.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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

    def settled(self, domains: Sequence[str], only: str | None) -> "Talk":
        """The same conversation with one domain, or with all of these; one that was not begun here gets a new one."""
        if self._session and only != self.only:
            return Talk(domains, only=only)
        talk = Talk(domains, self.base, only, self._session)
        talk.current = self.current
        return talk

    def choose(self, text: str, agents: "Mapping[str, Agent]") -> "Agent":
        """The agent that the message belongs to; blocks for some milliseconds. `agents`: those of `wanted`, by that name."""
        from agent.front import Front

        if len(self.wanted) == 1:
            return agents[self.wanted[0]]
        return agents[Front({name: agents[name] for name in self.wanted}).pick(text, self.base, self.current)]


def base_of(session: str, domain: str) -> str:
    """The conversation that a session belongs to: its id without `-DOMAIN`."""
    return session.removesuffix(f"-{domain}")


def resumed(session: str, domain: str, domains: Sequence[str]) -> Talk:
    """The conversation of a session, to go on with. `domains`: those that are chatted with, by the names they load by."""
    base = base_of(session, domain)
    if base == session:
        return Talk(domains, base, domain, session)
    talk = Talk(domains, base, domain if domain not in domains or len(domains) == 1 else None)
    talk.current = domain
    return talk


def turns_of(store: "Store", session: str, domain: str) -> list[dict[str, Any]]:
    """The turns of a session's conversation in all its domains, oldest first, as `Store.conversation` gives them."""
    base = base_of(session, domain)
    rows = store.conversation(session)
    for other in siblings(store, base) if base != session else ():
        rows += store.conversation(other) if other != session else []
    return sorted(rows, key=lambda row: (row["created"], row["seq"]))


def siblings(store: "Store", base: str) -> list[str]:
    """Ids of a conversation's sessions, one for each domain that took part."""
    import sqlalchemy as sa

    from agent.schema import sessions

    mine = sessions.c.id.startswith(f"{base}-", autoescape=True)
    with store.reading() as at:
        found = at.execute(sa.select(sessions.c.id, sessions.c.domain).where(mine))
        return [id for id, domain in found if base_of(id, domain) == base]


@dataclass(frozen=True, slots=True)
class Kept:
    """A conversation in the store: what its list shows."""

    session: str
    """Of its sessions the one that was used last."""
    domain: str
    ids: tuple[str, ...]
    title: str
    """As it was named, else its first question."""
    updated: str
    turns: int
    archived: bool
    domains: tuple[str, ...]


def kept(store: "Store", archived: bool = False, limit: int = 500) -> list[Kept]:
    """The conversations, that used last first; with `archived` those laid away alone."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in store.sessions(limit=limit, archived=archived):
        if row["turns"]:
            groups.setdefault(base_of(row["id"], row["domain"]), []).append(row)
    found = [_kept(rows) for rows in groups.values()]
    return [each for each in found if each.archived == archived]


def _kept(rows: list[dict[str, Any]]) -> Kept:
    first = min(rows, key=lambda row: row["created"])
    title = next((row["title"] for row in rows if row.get("title")), "") or first["first"]
    return Kept(rows[0]["id"], rows[0]["domain"], tuple(row["id"] for row in rows), " ".join(title.split()), rows[0]["updated"],
                sum(row["turns"] for row in rows), all(row.get("archived") for row in rows),
                tuple(dict.fromkeys(row["domain"] for row in rows)))


def row_of(turn: "Turn", reply: str) -> dict[str, Any]:
    """A turn as the store's row names things; `passages` are ids, `reply` is what the person saw."""
    names = "id session domain bundle intent state slots tool tool_arguments tool_result abstained timings_ms engine "
    row = {name: getattr(turn, name) for name in (names + "prompt_tokens tokens").split()}
    route = turn.route
    return row | {"question": turn.question, "reply": reply, "flags": list(turn.flags), "feedback": [],
                  "passages": [passage.id for passage in turn.passages], "confidence": route.confidence if route else None,
                  "oos": route.oos if route else None, "ranking": list(route.ranking) if route else []}
