"""Greedy decoding by transformers and peft: the reference that the fast engine is tested against, and the fallback."""

from collections.abc import Iterator
from pathlib import Path

from agent.models import BaseModel


class TransformersDecoder:
    """`decode(ids)` yields token ids. One stream at a time; the caller holds the lock."""

    def __init__(self, base: BaseModel, adapter: Path | None, threads: int) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        torch.set_num_threads(threads)
        self._torch = torch
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        model = AutoModelForCausalLM.from_pretrained(base.path, dtype=torch.float32)
        if adapter:
            from peft import PeftModel

            model = PeftModel.from_pretrained(model, adapter).merge_and_unload()
        self.model = model.to(self._device).eval()
        self.capacity = model.config.max_position_embeddings

    def decode(self, ids: list[int], limit: int) -> Iterator[int]:
        """At most `limit` greedy token ids after `ids`; the caller stops at an end token."""
        torch = self._torch
        fresh, cache = torch.tensor([ids], device=self._device), None
        for _ in range(limit):
            with torch.inference_mode():
                out = self.model(input_ids=fresh, past_key_values=cache, use_cache=True, logits_to_keep=1)
            cache = out.past_key_values
            fresh = out.logits[:, -1].argmax(-1, keepdim=True)
            yield int(fresh)
