"""Messages into token ids and ids back into text, from a model folder. No torch, no transformers."""

import json
from collections.abc import Sequence
from pathlib import Path

from agent.errors import ModelError
from agent.types import Message


class Tokens:
    """Tokenizer and chat template of a base model."""

    def __init__(self, folder: Path) -> None:
        from jinja2.sandbox import ImmutableSandboxedEnvironment
        from tokenizers import Tokenizer

        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        settings = _json(folder / "tokenizer_config.json")
        file = folder / "chat_template.jinja"
        template = file.read_text(encoding="utf-8") if file.is_file() else settings.get("chat_template")
        if not template:
            raise ModelError(f"{folder} has no chat template; use an instruction-tuned base model.")
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        self._template = environment.from_string(template)
        self._named = {name: _token(settings.get(name)) for name in ("bos_token", "eos_token")}
        ends = _json(folder / "generation_config.json").get("eos_token_id", _json(folder / "config.json").get("eos_token_id"))
        self.ends = frozenset(ends if isinstance(ends, list) else [ends])

    def encode(self, messages: Sequence[Message]) -> list[int]:
        """Ids of the conversation, opened for the assistant's next words."""
        text = self._template.render(messages=messages, add_generation_prompt=True, **self._named)
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def decoder(self) -> "TextStream":
        """A fresh stream of ids to text."""
        return TextStream(self)


class TextStream:
    """`feed(id)` gives the text that is certain now; half a character waits for its other half."""

    def __init__(self, tokens: Tokens) -> None:
        from tokenizers.decoders import DecodeStream

        self._stream, self._tokenizer = DecodeStream(skip_special_tokens=True), tokens.tokenizer

    def feed(self, token: int) -> str:
        """Text that `token` completes, perhaps empty."""
        return self._stream.step(self._tokenizer, token) or ""


def _json(file: Path) -> dict:
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def _token(value: object) -> str:
    return str(value.get("content", "")) if isinstance(value, dict) else str(value or "")
