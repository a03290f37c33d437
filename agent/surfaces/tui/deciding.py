"""What a key of the review does to a row or a proposed intent, and what it asks first. Each deed by its action's name.

A deed gives the sentence that a person is told, or an empty one where the dialog was left: then nothing was done.
"""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from agent.surfaces.tui import actions
from agent.surfaces.tui.screens.dialogs import Ask, Edit, Line, Pick

if TYPE_CHECKING:
    from agent.surfaces.tui.screens.review import ReviewScreen

OOS = "oos"


async def accept(screen: "ReviewScreen", each: Any) -> str:
    """The row teaches as it is; a proposed intent is added under the name that it is shown with."""
    if not hasattr(each, "row"):
        return await _add(screen, each, each.name)
    await _decide(screen, each, "accept")
    return f"It may teach. {undo_key(screen)} takes it back."


async def name(screen: "ReviewScreen", each: Any) -> str:
    """Add a proposed intent under another name."""
    return await _add(screen, each, await screen.app.push_screen_wait(Line("Name of the intent", each.name)) or "")


async def edit(screen: "ReviewScreen", each: Any) -> str:
    """The better answer; a row that holds none is refused with what does."""
    answer = None
    if each.row.part == "generator":
        answer = await screen.app.push_screen_wait(Edit("The better answer", each.row.answer or ""))
        if answer is None:
            return ""
    await _decide(screen, each, "edit", answer=answer)
    return f"The better answer is learned. {undo_key(screen)} takes it back."


async def relabel(screen: "ReviewScreen", each: Any) -> str:
    """The right intent; a row that holds no label is refused with what does."""
    intent = None
    if each.row.part == "router":
        known = screen.here.domain.intents.items()
        entries = [(name, f"{name.replace('_', ' ')}  {one.about}") for name, one in known]
        entries.append((OOS, "none of these  nothing that this agent knows"))
        intent = await screen.app.push_screen_wait(Pick("What was it about?", entries, each.row.intent or ""))
        if intent is None:
            return ""
    await _decide(screen, each, "relabel", intent=intent)
    learned = "none of these" if intent == OOS else str(intent).replace("_", " ")
    return f"Learned as {learned}. {undo_key(screen)} takes it back."


async def reject(screen: "ReviewScreen", each: Any) -> str:
    """Never train on it."""
    await _decide(screen, each, "reject")
    return f"Never trained on. {undo_key(screen)} takes it back."


async def trust(screen: "ReviewScreen", each: Any) -> str:
    """The author's other rows too."""
    who = each.row.author
    title = f"Trust {who}? What they teach waits no longer, unless something else speaks against it."
    if who and await screen.app.push_screen_wait(Ask(title, {"trust": "y", "leave it": "n"})) != "trust":
        return ""
    await screen.app.backstage.call(screen.reviewing.trust, each)
    return f"{who} is trusted. {undo_key(screen)} takes it back."


DEEDS: "dict[str, Callable[[ReviewScreen, Any], Awaitable[str]]]" = {
    "accept": accept, "name": name, "edit": edit, "relabel": relabel, "reject": reject, "trust": trust}


def undo_key(screen: "ReviewScreen") -> str:
    """The key that takes a decision back, as it is mapped."""
    return actions.shown(screen.app.remapped.get("review.undo", actions.of("review.undo").keys).split(",")[0])


async def _decide(screen: "ReviewScreen", each: Any, decision: str, **given: Any) -> None:
    domain = screen.here.domain
    await screen.app.backstage.call(lambda: screen.reviewing.decide(domain, each, decision, **given))


async def _add(screen: "ReviewScreen", each: Any, called: str) -> str:
    title = f"What should be said to: {called.replace('_', ' ')}?"
    reply = await screen.app.push_screen_wait(Edit(title)) if called else None
    if reply is None:
        return ""
    return await screen.app.backstage.call(screen.reviewing.add, screen.name_now, screen.here.domain, each, called, reply)
