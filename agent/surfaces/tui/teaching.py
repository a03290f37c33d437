"""The teaching keys: what a person does to an answer so that the agent learns, and how it is taken back.

After each deed the marks are read back from the store, which alone knows them after a restart. What may be said is
ruled by `agent.teaching`; what is shown about it is in `marks`.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from textual.widgets import TextArea

from agent.errors import RetuneError
from agent.surfaces.tui import marks
from agent.surfaces.tui.answers import Deed
from agent.surfaces.tui.screens.dialogs import Edit, Line, Pick

if TYPE_CHECKING:
    from agent.domain import Domain
    from agent.redactors import Redactors
    from agent.store import Store
    from agent.surfaces.tui.app import RetuneApp
    from agent.surfaces.tui.widgets.message import Message


class Better(Edit):
    """An editor of a better answer; left by Esc it remembers what was written, as `row["draft"]`."""

    def __init__(self, title: str, row: dict[str, Any], text: str) -> None:
        super().__init__(title, row.get("draft") or text)
        self.row = row

    def action_leave(self) -> None:
        """Nothing is taught, nothing is lost."""
        self.row["draft"] = self.query_one(TextArea).text
        super().action_leave()

    def action_keep(self) -> None:
        """Give the text."""
        self.row.pop("draft", None)
        super().action_keep()


async def up(message: "Message") -> None:
    """The answer was good."""
    await say(message, "up")


async def down(message: "Message") -> None:
    """The answer was bad; a better one may be written."""
    if await say(message, "down"):
        await _better(message, "What would be better? Esc skips this.", "")


async def correct(message: "Message") -> None:
    """The better answer, in an editor that holds the one there is, or the one that was written before."""
    mine = [each["value"] for each in own(message) if each["kind"] == "correction"]
    await _better(message, "The better answer", mine[0] if mine else message.reply.strip())


async def intent(message: "Message") -> None:
    """What the message was about."""
    try:
        domain, _ = await message.app.backstage.call(known, message.app, _row(message)["domain"])
    except RetuneError as error:
        return _refused(message, error)
    wide = max(map(len, domain.intents))
    entries = [(name, f"{name:<{wide}}  {each.about}") for name, each in sorted(domain.intents.items())]
    picked = await message.app.push_screen_wait(Pick("What was the message about?", entries, _row(message)["intent"] or ""))
    if picked:
        await say(message, "intent", picked)


async def none(message: "Message") -> None:
    """The message was about nothing that the agent knows."""
    await say(message, "none_of_these")


async def handoff(message: "Message") -> None:
    """A person should take over."""
    reason = await message.app.push_screen_wait(Line("Why should a person take over? It may stay empty."))
    if reason is not None:
        await _deed(message, lambda domain, redactors: _teaching().hand_off(
            message.app.store, _row(message)["id"], message.app.author, reason, domain=domain.name, redactors=redactors))


async def undo(message: "Message") -> None:
    """As it was before the last deed; after a restart the newest thing is taken back."""
    row, app, taken_back = _row(message), message.app, []

    def back(domain: "Domain", redactors: Any) -> None:
        mine = own(message)
        before = row["undo"][-1] if row.get("undo") else mine[:-1]
        held = {(each["kind"], each["value"]) for each in mine}
        for each in before:
            if (each["kind"], each["value"]) not in held and each["kind"] != "handoff":  # no private values: it was kept before
                app.store.feedback(row["id"], app.author, each["kind"], each["value"])
        for kind in sorted(_kinds(mine) - _kinds(before)):
            if not app.store.retract(row["id"], app.author, kind) and kind == "handoff":
                app.told("Somebody has taken the conversation by now, so the hand-off stays.")
        was = {(each["kind"], each["value"]) for each in before}
        taken_back.extend(each["kind"] for each in mine if (each["kind"], each["value"]) not in was)

    if await _deed(message, back, remember=False):
        row.get("undo", []) and row["undo"].pop()
        app.notify(f"Taken back: {', '.join(map(marks.name_of, taken_back))}.", markup=False)


async def say(message: "Message", kind: str, value: str | None = None) -> bool:
    """Keep what the person says about the answer, and show it; False, with the reason told, where that cannot be."""
    def keep(domain: "Domain", redactors: "Redactors | None") -> None:
        _teaching().teach(message.app.store, _row(message)["id"], kind, message.app.author, value, domain=domain.name,
                          intents=domain.intents, redactors=redactors)

    return await _deed(message, keep)


def known(app: "RetuneApp", name: str) -> "tuple[Domain, Redactors | None]":
    """A domain, and the redactors of its conversations if its agent is loaded; blocks. DomainError if it is not there."""
    from agent.domain import Domain

    for agent in app.backstage.loaded().values():
        if agent.domain.name == name:
            return agent.domain, agent.redactors
    return Domain.load(name), None


def heard(store: "Store", turns: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Turns' rows with all that was said about them, hand-offs too, as "feedback", oldest first.

    Each {"author", "kind", "value", "created"}; a hand-off has the kind `handoff`, its status as value, and "by".
    """
    import sqlalchemy as sa

    from agent.schema import feedback, handoffs

    ids = [row["id"] for row in turns]
    said = sa.select(*(feedback.c[name] for name in ("turn", "author", "kind", "value", "created")))
    wished = sa.select(*(handoffs.c[name] for name in ("turn", "author", "status", "by", "created")))
    found: dict[str, list[dict[str, Any]]] = {id: [] for id in ids}
    with store.reading() as at:
        for begin in range(0, len(ids), 500):
            some = ids[begin:begin + 500]
            for each in at.execute(said.where(feedback.c.turn.in_(some))).mappings():
                found[each["turn"]].append(dict(each))
            for each in at.execute(wished.where(handoffs.c.turn.in_(some))).mappings():
                found[each["turn"]].append(dict(each) | {"kind": "handoff", "value": each["status"]})
    for entries in found.values():
        entries.sort(key=lambda each: each["created"])
    return [row | {"feedback": found[row["id"]]} for row in turns]


def own(message: "Message") -> list[dict[str, Any]]:
    """What this person taught about the answer, oldest first."""
    said = message.row["feedback"] if message.row else ()
    return [each for each in said if each["author"] == message.app.author and each["kind"] != "reply"]


async def _better(message: "Message", title: str, text: str) -> None:
    better = await message.app.push_screen_wait(Better(title, _row(message), text))
    if not better:
        return
    if better == message.reply.strip():
        message.app.notify("That is the answer as it was, so nothing was taught by it.")
    else:
        await say(message, "correction", better)


async def _deed(message: "Message", do: "Callable[[Domain, Redactors | None], None]", remember: bool = True) -> bool:
    """Do it in a thread, one after another, and show what the store knows then; False, the reason told, if it is refused."""
    row, app = _row(message), message.app
    before = own(message)

    def work() -> list[dict[str, Any]]:
        do(*known(app, row["domain"]))
        return heard(app.store, [row])[0]["feedback"]

    async with message.deeds:
        try:
            row["feedback"] = await app.backstage.call(work)
        except RetuneError as error:
            _refused(message, error)
            return False
    if remember and own(message) != before:
        row.setdefault("undo", []).append(before)
    message.mark()
    message.refresh_bindings()
    return True


def _row(message: "Message") -> dict[str, Any]:
    assert message.row is not None, "only a logged turn can be taught about"
    return message.row


def _refused(message: "Message", error: RetuneError) -> None:
    message.app.notify(str(error), title="Not kept", severity="error", timeout=12, markup=False)


def _teaching() -> Any:
    from agent import teaching  # redaction with it, which a start need not wait for

    return teaching


def _logged(message: "Message") -> bool:
    return message.row is not None and not message.running


def _kinds(entries: Iterable[dict[str, Any]]) -> set[str]:
    return {each["kind"] for each in entries}


def _not_waiting(message: "Message") -> bool:
    return _logged(message) and message.row["state"] not in ("handoff", "escalated") and "handoff" not in _kinds(
        message.row["feedback"])


DEEDS = {
    "up": Deed(up, _logged),
    "down": Deed(down, _logged),
    "correct": Deed(correct, _logged),
    "intent": Deed(intent, _logged),
    "none": Deed(none, _logged),
    "handoff": Deed(handoff, _not_waiting),
    "undo": Deed(undo, lambda message: _logged(message) and bool(own(message))),
}
