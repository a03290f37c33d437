"""Many prompts at once through transformers: greedy, left-padded batches. For evaluation, on CPU or GPU."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from agent.generators.tokens import Tokens
from agent.models import BaseModel
from agent.types import Message


class BatchWriter:
    """`write(prompts)` yields (number of the prompt, answer) as batches finish; like lengths go together."""

    def __init__(self, base: BaseModel, adapter: Path | None, threads: int, size: int = 32) -> None:
        import torch

        from agent.generators.reference import TransformersDecoder

        self._torch, self._size, self._tokens = torch, size, Tokens(base.path)
        self._model: Any = TransformersDecoder(base, adapter, threads).model

    def write(self, prompts: Sequence[list[Message]], max_tokens: int) -> Iterator[tuple[int, str]]:
        """Answers to all prompts, greedy, at most `max_tokens` each."""
        torch = self._torch
        encoded = [self._tokens.encode(messages) for messages in prompts]
        order = sorted(range(len(encoded)), key=lambda i: len(encoded[i]))
        end = min(self._tokens.ends)
        for start in range(0, len(order), self._size):
            batch = order[start:start + self._size]
            longest = max(len(encoded[i]) for i in batch)
            ids = torch.full((len(batch), longest), end)
            mask = torch.zeros_like(ids)
            for line, i in enumerate(batch):
                ids[line, longest - len(encoded[i]):] = torch.tensor(encoded[i])
                mask[line, longest - len(encoded[i]):] = 1
            device = self._model.device
            with torch.inference_mode():
                out = self._model.generate(input_ids=ids.to(device), attention_mask=mask.to(device), do_sample=False,
                                           max_new_tokens=max_tokens, pad_token_id=end, eos_token_id=list(self._tokens.ends))
            for line, i in enumerate(batch):
                yield i, self._tokens.tokenizer.decode(out[line, longest:].tolist(), skip_special_tokens=True).strip()
