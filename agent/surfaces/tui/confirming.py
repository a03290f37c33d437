"""What happens when a turn waits for a yes: the dialog, and the tools that need no further yes in a conversation.

Knows no tool: the person's yes or no is the next message, as if it had been typed.
"""

from typing import TYPE_CHECKING

from agent.surfaces.tui.screens.confirm import Confirm

if TYPE_CHECKING:
    from agent.surfaces.tui.widgets.message import Message

YES, NO = "Yes", "No"


async def confirm(message: "Message") -> None:
    """Ask, once the turn is over; nothing if the person types already, looks elsewhere, or something else was said since."""
    chat = message.screen
    await chat.asking.finished()
    row = message.row
    if row is None or row["state"] != "confirming" or not chat.messages or chat.messages[-1] is not message:
        return
    allowed = (row["session"], row["tool"])
    if allowed in chat.allowed:
        message.note(f"Answered yes for you: {row['tool']} may go ahead for the rest of this conversation.")
        chat.send(YES)
        return
    if chat.prompt.text or message.app.screen is not chat:
        return
    word = await message.app.push_screen_wait(Confirm(row["reply"], row["tool"], chat.prompt.insert))
    if word is None:
        chat.prompt.focus()
        return
    if word == "always":
        chat.allowed.add(allowed)
        message.note(f"{row['tool']} may go ahead for the rest of this conversation; that ends when you leave Retune.")
    chat.send(NO if word == "no" else YES)
