"""The generator on vLLM servers: one bundle's adapter, by its own name, wherever it is served. Knows no prompts.

A server that fails before its first word is left for another; one that fails in mid-answer is an error, since what was said
was heard.
"""

import asyncio
import threading
import time
import weakref
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import aclosing
from typing import Any

from agent.errors import EngineError, Rejected, RetuneError, TooSlow
from agent.types import Made, Message
from agent.vllm.adapters import Adapter
from agent.vllm.fleet import Fleet, Replica
from agent.vllm.replies import NotServed, Piece


class VllmGenerator:
    """`stream(messages)` yields text, greedy as the local one does; any number of streams at once.

    The adapter is written out and loaded in a thread, so that a chat shows its prompt meanwhile; the first answer waits.
    """

    def __init__(self, fleet: Fleet, export: Callable[[], Adapter], total_s: float) -> None:
        """`export()` gives the adapter; it may take seconds at the first call for a bundle."""
        self.fleet, self.total_s = fleet, total_s
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="load-adapter")  # of its own: no event loop waits for it to end
        self._adapter = self._loader.submit(export)
        self._loaded = self._loader.submit(self._load)
        self._lock = threading.Lock()
        weakref.finalize(self, _drop, fleet, self._adapter).atexit = False  # the next process finds it loaded

    @property
    def adapter(self) -> Adapter:
        """What the servers are asked for, once it is written out; raises BundleError if they could never serve it."""
        return self._adapter.result()

    def warm(self) -> None:
        """Wait until some server serves it; raises what kept all of them from it."""
        if error := self._loaded.result():
            raise error

    async def stream(self, messages: Sequence[Message], max_tokens: int, *, session: str = "", made: Made | None = None,
                     structured: dict[str, Any] | None = None) -> AsyncIterator[str]:
        """Pieces of text; `made` is filled in while they come. Closing the iterator stops the server.

        structured: vLLM's structured_outputs: {"choice": ["yes", "no"]} or {"json": schema}; its backends do the rest.
        Raises EngineError's kinds.
        """
        deadline = time.monotonic() + self.total_s
        name, tried, lost = await self._ready(deadline), [], []
        failed: EngineError | None = None
        while True:
            replica = self._next(name, session, tried, failed)
            begun, looks = False, replica.looks
            try:
                async with aclosing(self._answer(replica, name, messages, max_tokens, deadline, structured)) as pieces:
                    async for piece in pieces:
                        begun = begun or bool(piece.text)
                        if made is not None and piece.finish:
                            made.prompt_tokens, made.tokens = piece.prompt_tokens, piece.tokens
                        if made is not None:
                            made.engine = f"vllm {replica.server.url}"
                        if piece.text:
                            yield piece.text
                replica.breaker.well()
                return
            except Rejected:
                raise  # another server would say the same
            except NotServed as error:
                failed = error
                if begun:
                    raise
                if replica not in lost:
                    lost.append(replica)
                    await _by(deadline, self._loader.submit(self.fleet.lost, replica, name, looks))
                    if name in replica.proved:
                        continue
                tried.append(replica)  # it lists what it does not serve, as several behind one URL do
            except EngineError as error:
                failed = error
                replica.breaker.failed()
                tried.append(replica)
                if begun or time.monotonic() >= deadline:  # no time is left for another, nor is it to blame
                    raise

    async def choose(self, messages: Sequence[Message], options: Sequence[str], session: str = "") -> str:
        """One of the options, and nothing else, whatever the model would rather say."""
        return "".join([piece async for piece in self.stream(messages, 64, session=session,
                                                             structured={"choice": list(options)})])

    async def _answer(self, replica: Replica, name: str, messages: Sequence[Message], max_tokens: int, deadline: float,
                      structured: dict[str, Any] | None) -> AsyncIterator[Piece]:
        with replica.answering(name):
            chat = replica.server.chat(name or replica.base, messages, max_tokens, deadline, structured)
            async with aclosing(chat) as pieces:
                async for piece in pieces:
                    yield piece

    async def _ready(self, deadline: float) -> str:
        """The adapter's name, once some server has it; turns that come together wait for one look."""
        try:
            adapter = await _by(deadline, self._adapter)
        except (RetuneError, OSError) as error:
            raise _ours(error) from error
        if self.fleet.has(adapter.name):
            return adapter.name
        with self._lock:
            if self._loaded.done():
                self._loaded = self._loader.submit(self._load)
            look = self._loaded
        if error := await _by(deadline, look):
            raise _ours(error)
        return adapter.name

    def _next(self, name: str, session: str, tried: Sequence[Replica], failed: EngineError | None) -> Replica:
        try:
            return self.fleet.pick(name, session, tried)
        except EngineError as error:
            raise failed or error from None

    def _load(self) -> Exception | None:
        try:
            self.fleet.want(self._adapter.result())
        except (RetuneError, OSError) as error:
            return error
        return None


def _ours(error: Exception) -> EngineError:
    """What kept the adapter from the servers, as an error of this turn's own: many may wait for one load."""
    return type(error)(str(error)) if isinstance(error, EngineError) else Rejected(str(error))


async def _by(deadline: float, doing: Future[Any]) -> Any:
    """What a thread is doing for every turn, waited for until then; he who leaves stops nothing."""
    try:
        async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
            return await asyncio.shield(asyncio.wrap_future(doing))
    except TimeoutError as error:
        raise TooSlow("The adapter is not on the servers yet; ask again, or look at `retune vllm status`.") from error


def _drop(fleet: Fleet, adapter: Any) -> None:
    """The last turn of the bundle ended and nobody may choose it again."""
    if adapter.done() and not adapter.exception():
        fleet.drop(adapter.result().name)
