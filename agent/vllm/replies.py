"""What a server says, read strictly: a line of a stream as a piece of text, everything else as an error of ours.

Knows vLLM's JSON and the meaning of its statuses; nothing of connections. Whatever a foreign server may send, what is raised
here is an EngineError, and its sentence holds nothing that speaks to a terminal.
"""

import json
from dataclasses import dataclass
from typing import Any

from agent.errors import Busy, EngineError, Garbled, Rejected

WRONG = (ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError, RecursionError)
"""What reading JSON of another shape may raise."""


class NotServed(EngineError):
    """The server is fine, but has no model of that name: it was restarted, or the adapter was unloaded."""


@dataclass(slots=True)
class Piece:
    """Text, and with the last piece why it ended and what it took."""

    text: str
    finish: str = ""
    prompt_tokens: int = 0
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole short body, or the beginning of a long one."""

    url: str
    status: int
    text: str

    @property
    def said(self) -> str:
        """The server's own sentence, if it is one."""
        try:
            table = json.loads(self.text)
            error = table.get("error", table)
            said = error.get("message") if isinstance(error, dict) else error
        except WRONG:
            said = self.text
        words = " ".join(str(said or "no reason given")[:1000].split())
        return "".join(sign for sign in words if sign.isprintable())[:300]

    def table(self) -> Any:
        """The JSON of a reply with status 200; raises what another status means."""
        if self.status != 200:
            self.refuse()
        try:
            return json.loads(self.text)
        except WRONG as error:
            raise Garbled(f"{self.url} answered with what is not JSON; is it a vLLM server?") from error

    def check(self, model: str) -> None:
        """Raise what a status other than 200 means where `model` was asked."""
        if self.status == 404 and "does not exist" in self.text:
            raise NotServed(f"{self.url} has no model {model!r}; look at `retune vllm status`.")
        if self.status != 200:
            self.refuse()

    def refuse(self) -> None:
        """Raise what the status means."""
        if self.status in (401, 403):
            raise Rejected(f"{self.url} refuses the key; set vllm_key (or RETUNE_VLLM_KEY) to the server's --api-key.")
        if self.status == 429 or self.status >= 500:
            raise Busy(f"{self.url} takes nothing just now ({self.status}: {self.said}).")
        if self.status == 400:
            raise Rejected(f"{self.url} refused ({self.said}).")
        raise Garbled(f"{self.url} answered {self.status} ({self.said}); is it a vLLM server?")


def piece(url: str, line: str, model: str) -> Piece:
    """What a line of a stream says; Garbled if no vLLM server says so, or if another model than that one answers."""
    try:
        table = json.loads(line)
        if "error" in table:
            Reply(url, int(table["error"].get("code") or 500), line).check(model)
        if table["model"] != model:
            raise Garbled(f"{url} answered with {str(table['model'])[:80]!r} where {model!r} was asked; nothing of it is kept.")
        usage, choices = table.get("usage") or {}, table["choices"]
        choice = choices[0] if choices else {"delta": {}}
        text, finish = choice["delta"].get("content") or "", choice.get("finish_reason") or ""
        if not (isinstance(text, str) and isinstance(finish, str)):
            raise TypeError("words are text")
        return Piece(text, finish, int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0))
    except WRONG as error:
        raise Garbled(f"{url} sent a line that no vLLM server sends ({line[:80]!r}).") from error
