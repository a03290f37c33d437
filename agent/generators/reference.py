"""Greedy decoding by transformers and peft: the reference that the fast engine is tested against, and the fallback."""

from collections.abc import Iterator
from pathlib import Path

from agent import weights
from agent.models import BaseModel


class TransformersDecoder:
    """`decode(ids)` yields token ids. One stream at a time; the caller holds the lock."""

    def __init__(self, base: BaseModel, adapter: Path | None, threads: int) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        torch.set_num_threads(threads)
        self._torch = torch
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        model, self._prompt = AutoModelForCausalLM.from_pretrained(base.path, dtype=torch.float32), None
        kind = weights.method(adapter) if adapter else "none"
        if kind == "replaced":
            changed = weights.replace(weights.read(base.path / "model.safetensors"), adapter)
            model.load_state_dict({name: torch.from_numpy(array) for name, array in changed.items()}, strict=False)
        elif adapter:
            from peft import PeftModel

            tuned = PeftModel.from_pretrained(model, adapter)
            if kind == "prefix_tuning":
                self._prompt = tuned.to(self._device).get_prompt  # every stream begins with a cache of its own
            else:
                model = tuned.merge_and_unload()
        self.model = model.to(self._device).eval()
        self.capacity = model.config.max_position_embeddings

    def decode(self, ids: list[int], limit: int) -> Iterator[int]:
        """At most `limit` greedy token ids after `ids`; the caller stops at an end token."""
        torch = self._torch
        fresh, cache = torch.tensor([ids], device=self._device), self._prompt(1) if self._prompt else None
        for _ in range(limit):
            with torch.inference_mode():
                out = self.model(input_ids=fresh, past_key_values=cache, use_cache=True, logits_to_keep=1)
            cache = out.past_key_values
            fresh = out.logits[:, -1].argmax(-1, keepdim=True)
            yield int(fresh)
