"""Text into vectors: the tuned or plain encoder, executed by ONNX Runtime. Knows nothing about intents."""

import json
import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path

import numpy as np

from agent import graphs, weights
from agent.models import BaseModel

KEPT = 64  # texts that `Shared` remembers
WORDLESS = {"[CLS]", "[SEP]", "[UNK]", "[PAD]"}
MAX_TOKENS = 192  # a long story keeps its first and last part, see `_clip`


class Encoder:
    """`embed(texts)` gives float32 [n, hidden], each row of length 1. Thread-safe.

    Source of the pooling (mean over real tokens, then L2): the model card of all-MiniLM-L6-v2.
    """

    def __init__(self, base: BaseModel, adapter: Path | None = None, threads: int = 1, int8: bool = True) -> None:
        """`int8`: twice as fast for one text; the cosine of its vectors to those of float32 is 0.99."""
        from tokenizers import Tokenizer

        config = json.loads((base.path / "config.json").read_text(encoding="utf-8"))
        read = weights.load(base.path / "model.safetensors", adapter)
        self._session = graphs.bert(read, config, int8).session(threads)
        self.precision = "int8" if int8 else "float32"
        self._batch = 1 if int8 else 32  # rows of one batch share the scale that numbers are rounded by, and would sway each other
        self._tokenizer = Tokenizer.from_file(str(base.path / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Unit vectors, float32 [n, hidden]; an empty text gives the vector of no words."""
        rows = [clip(encoding.ids) for encoding in self._tokenizer.encode_batch(list(texts))]
        out = np.zeros((len(rows), self._session.get_outputs()[0].shape[1]), dtype=np.float32)
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))  # like lengths together: little padding
        for start in range(0, len(order), self._batch):
            batch = order[start:start + self._batch]
            longest = max(len(rows[i]) for i in batch)
            ids, mask = np.zeros((len(batch), longest), np.int64), np.zeros((len(batch), longest), np.int32)
            for line, i in enumerate(batch):
                ids[line, :len(rows[i])], mask[line, :len(rows[i])] = rows[i], 1
            out[batch] = self._session.run(["pooled"], {"input_ids": ids, "mask": mask})[0]
        return out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-12)

    def reads(self, texts: Sequence[str]) -> np.ndarray:
        """bool [n]: whether a text has any piece of a word that the encoder knows; all that have none get one and the same vector."""
        return np.array([any(token not in WORDLESS for token in encoding.tokens)
                         for encoding in self._tokenizer.encode_batch(list(texts))], dtype=bool)


class Shared:
    """An encoder that computes a text once for all who ask for it at about the same time, each text by itself.

    A turn's router, its look-up and, behind a front, the routers of other domains ask for the same message. Thread-safe.
    """

    def __init__(self, encoder: Encoder) -> None:
        self._encoder, self.precision = encoder, encoder.precision
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, Future[np.ndarray]] = OrderedDict()

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """As `Encoder.embed`; more than one text go straight to it."""
        if len(texts) != 1:
            return self._encoder.embed(texts)
        with self._lock:
            found = self._kept.get(texts[0])
            if mine := found is None:
                found = self._kept[texts[0]] = Future()
                if len(self._kept) > KEPT:
                    self._kept.popitem(last=False)
        if mine:
            try:
                found.set_result(self._encoder.embed(texts))
            except BaseException as error:
                with self._lock:
                    self._kept.pop(texts[0], None)
                found.set_exception(error)
        return found.result()

    def reads(self, texts: Sequence[str]) -> np.ndarray:
        """As `Encoder.reads`."""
        return self._encoder.reads(texts)


def clip(ids: list[int]) -> list[int]:
    """At most MAX_TOKENS: the first third and the last two, because a wish often comes at the end of a story."""
    if len(ids) <= MAX_TOKENS:
        return ids
    head = MAX_TOKENS // 3
    return ids[:head] + ids[head - MAX_TOKENS:]
