"""The public fake: says what it is told to, word by word. For an app's own tests; needs no model."""

from collections.abc import AsyncIterator, Sequence

from agent.errors import EngineError
from agent.types import Made, Message


class ScriptedGenerator:
    """`ScriptedGenerator("hi", "bye")` answers "hi", then "bye", then "bye" again; an Exception in the list is raised.

    `Agent.load("finance", generator=ScriptedGenerator("Hello."))` needs no generator model. `seen` has the messages of every
    call, in order: lists of {"role", "content"}. What is raised reaches the caller as an EngineError.
    """

    def __init__(self, *answers: str | Exception) -> None:
        self._answers = list(answers) or [""]
        self.seen: list[list[Message]] = []
        """Messages of every call, in order."""

    async def stream(self, messages: Sequence[Message], max_tokens: int, *, session: str = "",
                     made: Made | None = None) -> AsyncIterator[str]:
        """The next answer to `messages` in pieces of one word; at most `max_tokens` of them.

        Whose answer it is, `session`, makes no difference; `made`, where it is given, notes the engine "scripted".
        """
        self.seen.append(list(messages))
        if made is not None:
            made.engine = "scripted"
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer if isinstance(answer, EngineError) else EngineError(str(answer))
        for number, word in enumerate(answer.split(" ")[:max_tokens]):
            yield f" {word}" if number else word
