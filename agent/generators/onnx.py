"""Greedy decoding on a CPU by ONNX Runtime, with the adapter merged. Knows token ids only.

The cache of the last prompt stays: what a new prompt has in common with it from the start (persona, rules, often the
facts) is not computed again.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from agent import graphs, weights
from agent.errors import EngineError
from agent.models import BaseModel


class OnnxDecoder:
    """`decode(ids)` yields token ids. One stream at a time; the caller holds the lock."""

    def __init__(self, base: BaseModel, adapter: Path | None, threads: int) -> None:
        import onnxruntime

        config = json.loads((base.path / "config.json").read_text(encoding="utf-8"))
        read = weights.load(base.path / "model.safetensors", adapter)
        self._session = graphs.llama(read, config).session(threads)
        self.capacity = graphs.MAX_POSITIONS
        shape = (1, config["num_key_value_heads"], self.capacity,
                 config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])
        self._binding = self._session.io_binding()
        for i in range(config["num_hidden_layers"]):
            for kind in ("key", "value"):  # the same buffer in and out: the cache grows in place
                buffer = onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros(shape, np.float32))
                self._binding.bind_ortvalue_input(f"past_{kind}.{i}", buffer)
                self._binding.bind_ortvalue_output(f"{kind}.{i}", buffer)
        self._logits = onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros((1, 1, config["vocab_size"]), np.float32))
        self._binding.bind_ortvalue_output("logits", self._logits)
        self._held: list[int] = []  # ids whose keys and values stand in the buffers

    def decode(self, ids: list[int], limit: int) -> Iterator[int]:
        """At most `limit` greedy token ids after `ids`; the caller stops at an end token."""
        if len(ids) + limit > self.capacity:
            raise EngineError(f"The prompt has {len(ids)} tokens and the engine holds {self.capacity - limit}; shorten it.")
        common = 0
        while common < min(len(ids) - 1, len(self._held)) and ids[common] == self._held[common]:
            common += 1
        self._held = self._held[:common]
        fresh = ids[common:]
        for _ in range(limit):
            token = self._step(fresh)
            yield token
            fresh = [token]

    def _step(self, fresh: list[int]) -> int:
        total = len(self._held) + len(fresh)
        self._binding.bind_cpu_input("input_ids", np.array([fresh], np.int64))
        self._binding.bind_cpu_input("last", np.array([total - 1], np.int32))
        self._binding.bind_cpu_input("total", np.array(total, np.int32))
        self._session.run_with_iobinding(self._binding)
        self._held += fresh  # only after the run: if it fails, nothing more is held
        return int(self._logits.numpy()[0, 0].argmax())
