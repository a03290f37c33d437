"""Any LangChain chat model as the generator, or a chain that ends in one. Knows langchain-core's messages, no prompts.

What it writes is not heard by the callbacks of the run around it: nothing may be shown before the guard has seen it. Callbacks
that the model was made with hear it.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any

from agent.errors import EngineError
from agent.types import Made, Message

SIGNS = 4
"""Characters that are taken for a token where a limit has to be kept: the model's own tokens are not known here."""


class ChatModelGenerator:
    """`stream(messages)` yields what `model.astream` does; any number of streams at once, if the model allows it."""

    def __init__(self, model: Any) -> None:
        """`model`: a BaseChatModel, or a Runnable of messages that gives messages or texts."""
        self.model = model
        self.engine = f"langchain {_name(model)}"

    async def stream(self, messages: Sequence[Message], max_tokens: int, *, session: str = "",
                     made: Made | None = None) -> AsyncIterator[str]:
        """Pieces of text; about `max_tokens` of them. Tokens are noted where the model tells them.

        Raises EngineError with what the model raised. Source: langchain_core.language_models.chat_models.
        """
        from langchain_core.messages import AIMessage, HumanMessage, SystemMessage

        kinds = {"system": SystemMessage, "user": HumanMessage, "assistant": AIMessage}
        asked = [kinds[message["role"]](message["content"]) for message in messages]
        made = made if made is not None else Made()
        made.engine, left = self.engine, max_tokens * SIGNS
        try:
            async with aclosing(self.model.astream(asked, config={"callbacks": []})) as pieces:
                async for piece in pieces:
                    if usage := getattr(piece, "usage_metadata", None):
                        made.prompt_tokens += usage["input_tokens"]
                        made.tokens += usage["output_tokens"]
                    if text := (piece if isinstance(piece, str) else str(piece.text))[:left]:
                        left -= len(text)
                        yield text
                    if left <= 0:
                        return
        except Exception as error:  # a model may be anybody's code, and each vendor has errors of its own
            raise EngineError(f"{self.engine} failed ({type(error).__name__}: {error}); ask again, or give the agent another "
                              "generator.") from error


def _name(model: Any) -> str:
    """What the vendor calls it, else its class."""
    for name in ("model_name", "model", "model_id"):
        if isinstance(found := getattr(model, name, None), str) and found:
            return found
    return type(model).__name__
