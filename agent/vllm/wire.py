"""One vLLM server over HTTP: chat as a stream, adapters, scores. Knows vLLM's routes and what may go wrong on the wire;
nothing about bundles, or about other servers.

Every failure is a class of agent.errors. A stream counts as whole only with a finish reason and [DONE], every line of it
naming the model that was asked for, which is the proof of what answered.
"""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import httpx2

from agent.errors import EngineError, Garbled, Rejected, TooSlow, Unreachable
from agent.types import Message
from agent.vllm.replies import WRONG, Piece, Reply, piece

LONGEST_LINE = 1 << 20  # bytes; no line of an answer comes near it
LONGEST_BODY = 1 << 22  # of which no more is read
SLOW_S = 60.0  # for what loads weights


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds."""

    connect: float = 5
    first_token: float = 30
    total: float = 120


@dataclass(frozen=True, slots=True)
class Model:
    """What a server says that it serves: `parent` is empty for the base; `root` is the path that it was loaded from."""

    name: str
    root: str
    parent: str
    max_tokens: int


@dataclass(frozen=True)
class Server:
    """`Server("http://127.0.0.1:8000", key)`; safe to use from any thread and any event loop."""

    url: str
    key: str = field(default="", repr=False)
    limits: Limits = Limits()
    clients: Any = field(default_factory=WeakKeyDictionary, repr=False, compare=False)
    """One for each event loop, since making one takes milliseconds; none keeps a connection."""

    def healthy(self) -> bool:
        """Whether it answers at all, within the limit for connecting."""
        try:
            return self._ask("GET", "/health", self.limits.connect).status == 200
        except EngineError:
            return False

    def started(self) -> float:
        """When its process began, in seconds since 1970, as its metrics say; 0.0 where they do not."""
        try:
            came = self._ask("GET", "/metrics", self._soon)
            found = re.search(r"(?m)^process_start_time_seconds (\S+)$", came.text)
            return float(found[1]) if found else 0.0
        except (EngineError, ValueError):
            return 0.0

    def models(self) -> list[Model]:
        """The base and every adapter that has a name there."""
        table = self._ask("GET", "/v1/models", self._soon).table()
        try:
            found = [Model(row["id"], row.get("root") or "", row.get("parent") or "", int(row.get("max_model_len") or 0))
                     for row in table["data"]]
            if not all(isinstance(text, str) for model in found for text in (model.name, model.root, model.parent)):
                raise TypeError("names are text")
            return found
        except WRONG as error:
            raise Garbled(f"{self.url} does not list models as vLLM does; is it a vLLM server?") from error

    def load(self, name: str, path: str) -> None:
        """Load an adapter under a name that is new there. One that it has already under that name is left as it is."""
        came = self._ask("POST", "/v1/load_lora_adapter", SLOW_S, {"lora_name": name, "lora_path": path})
        if came.status == 200 or (came.status == 400 and "already been loaded" in came.text):
            return
        said = came.said
        if "LoRA is not enabled" in said or (came.status == 404 and "error" not in came.text):  # the route itself is missing
            raise Rejected(f"{self.url} takes no adapters while it runs: start it with --enable-lora and "
                           "VLLM_ALLOW_RUNTIME_LORA_UPDATING=1, or let `retune vllm up` do it.")
        if "max_lora_rank" in said:
            raise Rejected(f"{self.url} has a smaller --max-lora-rank than {name} needs ({said}); start it with a larger one.")
        if came.status == 404:
            raise Rejected(f"{self.url} does not see {path} ({said}): it must share that folder; if it is mounted elsewhere "
                           "there, set vllm_home.")
        if came.status == 500 and "add_lora" in said:
            raise Rejected(f"{self.url} cannot load {name} ({said}).")
        came.refuse()

    def unload(self, name: str) -> None:
        """Take the name away; turns that run on it go on. Nothing if it has no such name."""
        came = self._ask("POST", "/v1/unload_lora_adapter", self._soon, {"lora_name": name})
        if came.status not in (200, 404):
            came.refuse()

    def score(self, model: str, ids: Sequence[int], answer: Sequence[int]) -> list[float]:
        """Log probability of each token with which its greedy answer to `ids` agrees with `answer`, up to the first that does
        not; NaN where it says none. Of a prompt's own tokens it is never asked: on a CPU, vLLM 0.32 dies of that as soon as
        another turn of an adapter shares the step.
        """
        body = {"model": model, "prompt": list(ids), "max_tokens": len(answer), "temperature": 0.0, "logprobs": 1,
                "ignore_eos": True, "return_token_ids": True}
        came = self._ask("POST", "/v1/completions", SLOW_S, body)
        if came.status == 500 and "JSON compliant" in came.text:  # of values that are not finite
            return [float("nan")]
        came.check(model)
        table = came.table()
        try:
            choice, found = table["choices"][0], []
            told = zip(answer, choice["token_ids"], choice["logprobs"]["token_logprobs"], strict=True)
            for token, own, value in told:
                if value is not None and token != own:
                    break
                found.append(float("nan" if value is None else value))
            return found
        except WRONG as error:
            raise Garbled(f"{self.url} does not score tokens as vLLM does ({error!r}); is it a vLLM server?") from error

    async def chat(self, model: str, messages: Sequence[Message], max_tokens: int, deadline: float,
                   structured: dict[str, Any] | None = None) -> AsyncIterator[Piece]:
        """Greedy answer in pieces, by `deadline` (of time.monotonic); the last one has `finish`. Closing it stops the server.

        structured: vLLM's structured_outputs, such as {"choice": [...]} or {"json": schema}.
        Raises EngineError's kinds; NotServed if the server has no model of that name.
        """
        body = {"model": model, "messages": list(messages), "max_tokens": max_tokens, "temperature": 0.0, "stream": True,
                "stream_options": {"include_usage": True}} | ({"structured_outputs": structured} if structured else {})
        first = min(deadline, time.monotonic() + self.limits.first_token)
        async with self._open("POST", "/v1/chat/completions", first, body) as came:
            if came.status_code != 200:
                (await self._whole(came, first)).check(model)
            kind = came.headers.get("content-type", "")
            if not kind.startswith("text/event-stream"):
                raise Garbled(f"{self.url} answers with {kind[:80]!r}, not with a stream; is it a vLLM server?")
            last, begun = Piece(""), False
            async with aclosing(self._lines(came, lambda: deadline if begun else first)) as lines:
                async for line in lines:
                    if line == "[DONE]":
                        if not last.finish:
                            raise Garbled(f"{self.url} ended an answer without saying why; ask again.")
                        if last.finish == "length" and not begun:  # its cache holds NaN, of whatever adapter
                            raise Garbled(f"{self.url} wrote tokens and not a word; restart that server.")
                        yield last
                        return
                    new = piece(self.url, line, model)
                    begun = begun or bool(new.text)
                    if new.text:
                        yield Piece(new.text)
                    last = Piece("", new.finish or last.finish, new.prompt_tokens or last.prompt_tokens,
                                 new.tokens or last.tokens)
        raise Garbled(f"{self.url} cut an answer off; ask again.")

    def _ask(self, method: str, path: str, wait: float, body: dict[str, Any] | None = None) -> Reply:
        """One short question and the whole of its answer, `wait` seconds for both; blocks, so never in a coroutine."""

        async def asked() -> Reply:
            end = time.monotonic() + wait
            async with self._open(method, path, end, body) as came:
                return await self._whole(came, end)

        return asyncio.run(asked())

    @asynccontextmanager
    async def _open(self, method: str, path: str, end: float, body: dict[str, Any] | None = None) -> AsyncIterator[Any]:
        """An answer whose headers came, on a connection of its own: closing it stops the server, no stale one is ever met."""
        with self._typed():
            client = self._client()
            came = await self._by(end, client.send(client.build_request(method, path, json=body), stream=True))
        try:
            yield came
        finally:
            await came.aclose()

    def _client(self) -> httpx2.AsyncClient:
        loop = asyncio.get_running_loop()
        if loop not in self.clients:
            self.clients[loop] = httpx2.AsyncClient(
                base_url=self.url, headers=self._headers, timeout=httpx2.Timeout(None, connect=self.limits.connect),
                limits=httpx2.Limits(max_keepalive_connections=0), trust_env=False, verify=self.url.startswith("https"))
        return self.clients[loop]

    async def _lines(self, came: Any, deadline: Any) -> AsyncIterator[str]:
        """What stands after `data:`, decoded strictly: half a character is an error, not a question mark."""
        rest, chunks = b"", aiter(came.aiter_raw())
        while True:
            with self._typed():
                chunk = await self._by(deadline(), anext(chunks, None))
            if chunk is None:
                return
            *lines, rest = (rest + chunk).split(b"\n")
            if len(rest) > LONGEST_LINE:
                raise Garbled(f"{self.url} sent a line of more than {LONGEST_LINE} bytes; is it a vLLM server?")
            for line in lines:
                if line.startswith(b"data:"):
                    try:
                        yield line[5:].decode("utf-8").strip()
                    except UnicodeDecodeError as error:
                        raise Garbled(f"{self.url} sent what is not UTF-8; is it a vLLM server?") from error

    async def _whole(self, came: Any, end: float) -> Reply:
        """All of a body, or the beginning of one that is too long to be meant."""

        async def read() -> bytes:
            body = b""
            async for chunk in came.aiter_raw():
                body += chunk
                if len(body) > LONGEST_BODY:
                    break
            return body

        with self._typed():
            return Reply(self.url, came.status_code, (await self._by(end, read())).decode("utf-8", "replace"))

    async def _by(self, deadline: float, doing: Any) -> Any:
        try:
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                return await doing
        except TimeoutError as error:
            raise TooSlow(f"{self.url} did not answer in time; look at its load, or raise vllm_first_token_s or "
                          "vllm_total_s.") from error

    @property
    def _soon(self) -> float:
        """Seconds for what takes no work: twice the limit for connecting, which is then told apart from a slow answer."""
        return 2 * self.limits.connect

    @property
    def _headers(self) -> dict[str, str]:
        if not (self.key.isascii() and self.key.isprintable() and self.key == self.key.strip()):
            raise Rejected(f"The key for {self.url} has signs that no header can hold; correct vllm_key (or RETUNE_VLLM_KEY).")
        return {"Accept-Encoding": "identity"} | ({"Authorization": f"Bearer {self.key}"} if self.key else {})

    @contextmanager
    def _typed(self) -> Any:
        """The library's errors as ours."""
        try:
            yield
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.UnsupportedProtocol, httpx2.InvalidURL,
                UnicodeError, ExceptionGroup) as error:  # the last two: names and ports that no host has
            raise Unreachable(f"No vLLM server answers at {self.url} ({error or 'no connection in time'}); start one with "
                              "`retune vllm up`, or correct the setting vllm.") from error
        except httpx2.TimeoutException as error:
            raise TooSlow(f"{self.url} did not answer in time; look at its load.") from error
        except httpx2.HTTPError as error:
            raise Garbled(f"{self.url} broke off ({error or type(error).__name__}); ask again, or look at its log.") from error
