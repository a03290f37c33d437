"""The generator in this process: messages in, text out as it is made. Picks the engine; knows nothing about domains."""

import asyncio
import importlib.util
import json
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

from agent import graphs, weights
from agent.errors import EngineError
from agent.generators.tokens import Tokens
from agent.models import BaseModel
from agent.settings import Settings
from agent.types import Made, Message


class Decoder(Protocol):
    """An engine under the local generator: greedy token ids, one stream at a time."""

    capacity: int

    def decode(self, ids: list[int], limit: int) -> Iterator[int]:
        """Token ids after `ids`."""
        ...


class LocalGenerator:
    """`stream(messages)` yields text; `write(messages)` gives it whole. Greedy, so the same prompt gives the same text.

    The engine loads in a thread of its own, so that a chat shows its prompt meanwhile; the first answer waits for it.
    """

    def __init__(self, base: BaseModel, adapter: Path | None, settings: Settings) -> None:
        self.engine = choose_engine(base, settings, adapter)
        self.tokens = Tokens(base.path)
        self._lock = threading.Lock()
        loader = ThreadPoolExecutor(1, thread_name_prefix="load-generator")
        self._decoder = loader.submit(make_decoder, self.engine, base, adapter, settings.cores)
        loader.shutdown(wait=False)

    @property
    def decoder(self) -> Decoder:
        """The engine, once it is loaded."""
        return self._decoder.result()

    def warm(self) -> None:
        """Wait until the engine is loaded; raises what loading raised."""
        self._decoder.result()

    async def stream(self, messages: Sequence[Message], max_tokens: int, *, session: str = "",
                     made: Made | None = None) -> AsyncIterator[str]:
        """Pieces of text as they are made; closing the iterator stops the engine at the next token.

        `made` is filled in while they come; a session is nothing to an engine that is alone.
        """
        loop, pieces, stop = asyncio.get_running_loop(), asyncio.Queue(), threading.Event()

        def put(item: str | Exception | None) -> None:
            if not stop.is_set():  # nobody waits any more, and the loop may be closed
                loop.call_soon_threadsafe(pieces.put_nowait, item)

        def run() -> None:
            try:
                for piece in self.pieces(messages, max_tokens, stop, made):
                    put(piece)
                put(None)
            except Exception as error:  # handed to the waiting side, which raises it
                put(error)

        worker = threading.Thread(target=run, name="generate")  # waited for at exit: it ends at the next token
        worker.start()
        try:
            while (item := await pieces.get()) is not None:
                if isinstance(item, Exception):
                    raise item if isinstance(item, EngineError) else EngineError(f"The generator failed: {item}") from item
                yield item
        finally:
            stop.set()

    def write(self, messages: Sequence[Message], max_tokens: int) -> str:
        """The whole answer."""
        return "".join(self.pieces(messages, max_tokens, threading.Event()))

    def pieces(self, messages: Sequence[Message], max_tokens: int, stop: threading.Event,
               made: Made | None = None) -> Iterator[str]:
        """Pieces of text; one stream at a time, further ones wait."""
        text, ids = self.tokens.decoder(), self.tokens.encode(messages)
        made = made or Made()
        made.engine, made.prompt_tokens = self.engine, len(ids)
        with self._lock:
            for token in self.decoder.decode(ids, max_tokens):
                made.tokens += 1
                if token in self.tokens.ends or stop.is_set():
                    return
                if piece := text.feed(token):
                    yield piece


def choose_engine(base: BaseModel, settings: Settings, adapter: Path | None = None) -> str:
    """onnx where it is installed and covers the base and what was tuned, else transformers; an explicit setting wins."""
    if settings.engine in ("onnx", "transformers"):
        return settings.engine
    config = json.loads((base.path / "config.json").read_text(encoding="utf-8"))
    installed = all(importlib.util.find_spec(name) for name in ("onnxruntime", "onnx"))
    merges = adapter is None or weights.method(adapter) != "prefix_tuning"
    return "onnx" if installed and merges and graphs.can_decode(config) else "transformers"


def make_decoder(engine: str, base: BaseModel, adapter: Path | None, threads: int) -> Decoder:
    """The engine by its name."""
    if engine == "onnx":
        from agent.generators.onnx import OnnxDecoder

        return OnnxDecoder(base, adapter, threads)
    from agent.generators.reference import TransformersDecoder

    return TransformersDecoder(base, adapter, threads)
