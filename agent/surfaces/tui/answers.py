"""What can be done to an answer: each deed by the name of its action, `answer.NAME`. Add a room's deeds to `DEEDS`."""

import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from agent.surfaces.tui.widgets.message import Message

_FENCE = re.compile(r"^(```+|~~~+)[^\n]*\n(.*?)(?:^\1|\Z)", re.MULTILINE | re.DOTALL)


class Deed(NamedTuple):
    """`do` runs as a worker, so it may wait for a dialog; `can` says whether it makes sense now."""

    do: "Callable[[Message], Awaitable[None]]"
    can: "Callable[[Message], bool]" = lambda message: not message.running


async def copy(message: "Message") -> None:
    """The answer to the clipboard (OSC 52, where the terminal knows it)."""
    message.app.copy_to_clipboard(message.reply)
    message.app.notify("The answer is copied.")


def codes(text: str) -> list[str]:
    """The blocks of code of an answer."""
    return [found[2] for found in _FENCE.finditer(text)]


async def code(message: "Message") -> None:
    """The next block of code to the clipboard, at the end the first again."""
    blocks = codes(message.reply)
    number = message.codes_copied % len(blocks)
    message.codes_copied += 1
    message.app.copy_to_clipboard(blocks[number])
    message.app.notify(f"Block {number + 1} of {len(blocks)} is copied.")


async def again(message: "Message") -> None:
    """The same question once more, as a new turn."""
    message.screen.send(message.question)


async def edit(message: "Message") -> None:
    """The question into the prompt, to be changed and sent."""
    message.screen.prompt.fill(message.question)


DEEDS: dict[str, Deed] = {
    "copy": Deed(copy),
    "code": Deed(code, lambda message: bool(codes(message.reply))),
    "again": Deed(again, lambda message: message.screen.free),
    "edit": Deed(edit),
}


def can(name: str, message: "Message") -> bool:
    """Whether the deed is there and makes sense for this answer now."""
    return name in DEEDS and DEEDS[name].can(message)


def do(name: str, message: "Message") -> None:
    """Begin the deed."""
    if can(name, message):
        message.app.run_worker(DEEDS[name].do(message), group="deeds")
