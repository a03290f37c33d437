"""One vLLM server over HTTP: chat as a stream, adapters, scores. Knows vLLM's routes and what may go wrong on the wire;
nothing about bundles, or about other servers.

Every failure is a class of agent.errors. A stream counts as whole only with a finish reason and [DONE], every line of it
naming the model that was asked for, which is the proof of what answered.
"""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import httpx2

from agent.errors import Busy, EngineError, Garbled, Rejected, TooSlow, Unreachable
from agent.types import Message

LONGEST_LINE = 1 << 20  # bytes; no line of an answer comes near it
LONGEST_BODY = 1 << 22
SLOW_S = 60.0  # for what loads weights


class NotServed(EngineError):
    """The server is fine, but has no model of that name: it was restarted, or the adapter was unloaded."""


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


@dataclass(slots=True)
class Piece:
    """Text, and with the last piece why it ended and what it took."""

    text: str
    finish: str = ""
    prompt_tokens: int = 0
    tokens: int = 0


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
            with self._control(self.limits.connect) as client:
                return client.get("/health").status_code == 200
        except EngineError:
            return False

    def started(self) -> float:
        """When its process began, in seconds since 1970, as its metrics say; 0.0 where they do not."""
        try:
            with self._control(self.limits.connect) as client:
                found = re.search(r"(?m)^process_start_time_seconds (\S+)$", client.get("/metrics").text)
            return float(found[1]) if found else 0.0
        except (EngineError, ValueError):
            return 0.0

    def models(self) -> list[Model]:
        """The base and every adapter that has a name there."""
        with self._control(self.limits.connect) as client:
            table = self._table(client.get("/v1/models"))
        try:
            return [Model(row["id"], row.get("root") or "", row.get("parent") or "", int(row.get("max_model_len") or 0))
                    for row in table["data"]]
        except (KeyError, TypeError, ValueError) as error:
            raise Garbled(f"{self.url} does not list models as vLLM does; is it a vLLM server?") from error

    def load(self, name: str, path: str) -> None:
        """Load an adapter under a name that is new there. One that it has already under that name is left as it is."""
        with self._control(SLOW_S) as client:
            came = client.post("/v1/load_lora_adapter", json={"lora_name": name, "lora_path": path})
        if came.status_code == 200 or (came.status_code == 400 and "already been loaded" in came.text):
            return
        said = _said(came)
        if "LoRA is not enabled" in said or (came.status_code == 404 and "error" not in came.text):  # the route itself is missing
            raise Rejected(f"{self.url} takes no adapters while it runs: start it with --enable-lora and "
                           "VLLM_ALLOW_RUNTIME_LORA_UPDATING=1, or let `retune vllm up` do it.")
        if "max_lora_rank" in said:
            raise Rejected(f"{self.url} has a smaller --max-lora-rank than {name} needs ({said}); start it with a larger one.")
        if came.status_code == 404:
            raise Rejected(f"{self.url} does not see {path} ({said}): it must share that folder; if it is mounted elsewhere "
                           "there, set vllm_home.")
        if came.status_code == 500 and "add_lora" in said:
            raise Rejected(f"{self.url} cannot load {name} ({said}).")
        self._refuse(came, said)

    def unload(self, name: str) -> None:
        """Take the name away; turns that run on it go on. Nothing if it has no such name."""
        with self._control(self.limits.connect) as client:
            came = client.post("/v1/unload_lora_adapter", json={"lora_name": name})
        if came.status_code not in (200, 404):
            self._refuse(came, _said(came))

    def score(self, model: str, ids: Sequence[int], answer: Sequence[int]) -> list[tuple[float, int]]:
        """(log probability, rank from 1) of each token of `answer` after `ids`; NaN where it says none."""
        body = {"model": model, "prompt": [*ids, *answer], "max_tokens": 1, "temperature": 0.0, "prompt_logprobs": 0}
        with self._control(SLOW_S) as client:
            came = client.post("/v1/completions", json=body)
        self._check(came.status_code, came.text, model)
        try:
            rows = self._table(came)["choices"][0]["prompt_logprobs"][-len(answer):]
            found = [row[str(token)] for token, row in zip(answer, rows, strict=True)]
            return [(float("nan" if one["logprob"] is None else one["logprob"]), int(one["rank"])) for one in found]
        except (KeyError, IndexError, TypeError, ValueError) as error:
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
        async with self._asked(body, first) as came:
            last, begun = Piece(""), False
            async with aclosing(self._lines(came, lambda: deadline if begun else first)) as lines:
                async for line in lines:
                    if line == "[DONE]":
                        if not last.finish:
                            raise Garbled(f"{self.url} ended an answer without saying why.")
                        yield last
                        return
                    piece = self._piece(line, model)
                    begun = begun or bool(piece.text)
                    if piece.text:
                        yield Piece(piece.text)
                    last = Piece("", piece.finish or last.finish, piece.prompt_tokens or last.prompt_tokens,
                                 piece.tokens or last.tokens)
        raise Garbled(f"{self.url} cut an answer off.")

    def _piece(self, line: str, model: str) -> Piece:
        try:
            table = json.loads(line)
            if "error" in table:
                error = table["error"]
                self._check(int(error.get("code") or 500), json.dumps(table), model)
            if table["model"] != model:
                raise Garbled(f"{self.url} answered with {table['model']!r} where {model!r} was asked; nothing of it is kept.")
            usage, choices = table.get("usage") or {}, table["choices"]
            choice = choices[0] if choices else {"delta": {}}
            return Piece(choice["delta"].get("content") or "", choice.get("finish_reason") or "",
                         int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0))
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            raise Garbled(f"{self.url} sent a line that no vLLM server sends ({line[:80]!r}).") from error

    @asynccontextmanager
    async def _asked(self, body: dict[str, Any], first: float) -> AsyncIterator[Any]:
        """The open answer, on a connection of its own: closing it stops the server, and no stale one is ever met."""
        client = self._client()
        with self._typed():
            came = await self._by(first, client.send(client.build_request("POST", "/v1/chat/completions", json=body), stream=True))
        try:
            if came.status_code != 200:
                with self._typed():
                    said = await self._by(first, self._start(came))
                self._check(came.status_code, said, body["model"])
            kind = came.headers.get("content-type", "")
            if not kind.startswith("text/event-stream"):
                raise Garbled(f"{self.url} answers with {kind or 'nothing named'}, not with a stream; is it a vLLM server?")
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
                raise Garbled(f"{self.url} sent a line of more than {LONGEST_LINE} bytes.")
            for line in lines:
                if line.startswith(b"data:"):
                    try:
                        yield line[5:].decode("utf-8").strip()
                    except UnicodeDecodeError as error:
                        raise Garbled(f"{self.url} sent what is not UTF-8.") from error

    async def _start(self, came: Any) -> str:
        """The beginning of a body, for a sentence about it."""
        body = b""
        async for chunk in came.aiter_raw():
            body += chunk
            if len(body) > LONGEST_BODY:
                break
        return body.decode("utf-8", "replace")

    async def _by(self, deadline: float, doing: Any) -> Any:
        try:
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                return await doing
        except TimeoutError as error:
            raise TooSlow(f"{self.url} did not answer in time; look at its load, or raise vllm_first_token_s or "
                          "vllm_total_s.") from error

    def _check(self, status: int, body: str, model: str) -> None:
        """Raise what a status other than 200 means."""
        if status == 404 and "does not exist" in body:
            raise NotServed(f"{self.url} has no model {model!r}.")
        if status != 200:
            self._refuse(httpx2.Response(status, text=body), _told(body))

    def _refuse(self, came: Any, said: str) -> None:
        status = came.status_code
        if status in (401, 403):
            raise Rejected(f"{self.url} refuses the key; set vllm_key (or RETUNE_VLLM_KEY) to the server's --api-key.")
        if status == 429 or status >= 500:
            raise Busy(f"{self.url} takes nothing just now ({status}: {said}).")
        if status == 400:
            raise Rejected(f"{self.url} refused: {said}")
        raise Garbled(f"{self.url} answered {status} ({said}); is it a vLLM server?")

    def _table(self, came: Any) -> Any:
        if came.status_code != 200:
            self._refuse(came, _said(came))
        try:
            return came.json()
        except ValueError as error:
            raise Garbled(f"{self.url} answered with what is not JSON; is it a vLLM server?") from error

    @property
    def _headers(self) -> dict[str, str]:
        return {"Accept-Encoding": "identity"} | ({"Authorization": f"Bearer {self.key}"} if self.key else {})

    @contextmanager
    def _control(self, wait: float) -> Any:
        """A client for one short question."""
        timeout = httpx2.Timeout(wait, connect=self.limits.connect)
        with self._typed(), httpx2.Client(base_url=self.url, headers=self._headers, timeout=timeout, trust_env=False,
                                          verify=self.url.startswith("https")) as client:
            yield client

    @contextmanager
    def _typed(self) -> Any:
        """The library's errors as ours."""
        try:
            yield
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.UnsupportedProtocol, httpx2.InvalidURL) as error:
            raise Unreachable(f"No vLLM server answers at {self.url} ({error or 'no connection in time'}); start one with "
                              "`retune vllm up`, or correct the setting vllm.") from error
        except httpx2.TimeoutException as error:
            raise TooSlow(f"{self.url} did not answer in time; look at its load.") from error
        except httpx2.HTTPError as error:
            raise Garbled(f"{self.url} broke off ({error or type(error).__name__}).") from error


def _said(came: Any) -> str:
    return _told(came.text)


def _told(body: str) -> str:
    """The server's own sentence, if it is one."""
    try:
        table = json.loads(body)
        error = table.get("error", table)
        said = error.get("message") if isinstance(error, dict) else error
    except (ValueError, AttributeError):
        said = body
    return " ".join(str(said or "no reason given").split())[:300]
