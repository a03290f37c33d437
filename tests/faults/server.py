"""A server that speaks as vLLM 0.32 does, and that fails, on the next requests, in the ways it was told to.

Raw sockets in an event loop and a thread of its own, since no HTTP library would send half of this. Bodies and statuses are
those of the real server. Knows no bundles; its log probabilities are `chance`, so that a test can make probes that agree.
"""

import asyncio
import json
import socket
import struct
import threading
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

CHAT, MODELS, SCORE = "/v1/chat/completions", "/v1/models", "/v1/completions"
LOAD, UNLOAD = "/v1/load_lora_adapter", "/v1/unload_lora_adapter"
WORDS = ("You can pay", " by card", " or by bank", " transfer.", " We take", " no cash.")
HUGE = 100 << 20  # bytes
BLOCK = b"x" * (1 << 16)
SECONDS = 0.02  # that stand for one where bytes come slowly
ASIDE = {401: "Unauthorized", 404: "Not Found", 200: "OK"}


def follows(tuned: bool, ids: list[int], count: int) -> list[int]:
    """The greedy answer to `ids`, other tokens with an adapter than without."""
    return [10 * ids[-1] + number + 500 * tuned for number in range(count)]


def chance(tuned: bool, token: int) -> float:
    """The log probability that it gives a token, with an adapter or without."""
    return (-0.2 if tuned else -1.0) - token % 5 / 10


class Answer:
    """One request, and what is sent for it."""

    def __init__(self, server: "FaultServer", writer: asyncio.StreamWriter, path: str, body: dict[str, Any]) -> None:
        self.server, self.writer, self.path, self.body = server, writer, path, body
        self.model = body.get("model", "")

    async def send(self, data: bytes) -> None:
        """As it stands."""
        self.writer.write(data)
        await self.writer.drain()
        self.server.sent += len(data)

    async def head(self, status: int = 200, kind: str = "text/event-stream; charset=utf-8", *more: str) -> None:
        """Status and headers of a chunked body."""
        lines = [f"HTTP/1.1 {status} {ASIDE.get(status, 'As told')}", f"content-type: {kind}", *more]
        await self.send("\r\n".join([*lines, "transfer-encoding: chunked", "", ""]).encode())

    async def chunk(self, data: bytes) -> None:
        """One chunk of the body."""
        await self.send(b"%x\r\n%b\r\n" % (len(data), data))

    async def end(self) -> None:
        """The body is whole."""
        await self.send(b"0\r\n\r\n")

    async def whole(self, status: int, text: str, kind: str = "application/json", *more: str) -> None:
        """A short body at once."""
        await self.head(status, kind, *more)
        await self.chunk(text.encode())
        await self.end()

    async def error(self, status: int, message: str, kind: str = "InvalidUserInput", param: str | None = None) -> None:
        """As vLLM says no."""
        await self.whole(status, json.dumps({"error": {"message": message, "type": kind, "param": param, "code": status}}))

    async def event(self, table: Any) -> None:
        """One line of a stream, and the empty one after it."""
        await self.chunk(b"data: " + (table if isinstance(table, bytes) else json.dumps(table).encode()) + b"\n\n")

    def line(self, delta: dict[str, Any], finish: str | None = None, **other: Any) -> dict[str, Any]:
        """What stands in such a line."""
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish, "token_ids": None}
        return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": self.model,
                "choices": [choice]} | other

    async def begin(self, words: int = 2) -> None:
        """Headers, the line with the role, and so many words."""
        await self.head()
        await self.event(self.line({"role": "assistant", "content": ""}))
        for word in WORDS[:words]:
            await self.event(self.line({"content": word}))

    async def finish(self, reason: str = "stop") -> None:
        """Why it ended, what it took, [DONE]."""
        await self.event(self.line({"content": ""}, reason))
        usage = {"prompt_tokens": 40, "total_tokens": 40 + len(WORDS), "completion_tokens": len(WORDS)}
        await self.event(self.line({}) | {"choices": [], "usage": usage})
        await self.event(b"[DONE]")
        await self.end()

    def close(self) -> None:
        """As the kernel closes for a process that was killed."""
        self.writer.close()

    def reset(self) -> None:
        """RST in place of an orderly end."""
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Fault = Callable[[Answer], Awaitable[None]]


class FaultServer:
    """`with FaultServer() as server:` answers as vLLM does; `server.next(CHAT, fault, ...)` fails the next requests."""

    def __init__(self, base: str = "smollm2", key: str = "", words: tuple[str, ...] = WORDS) -> None:
        self.base, self.key, self.words = base, key, words
        self.adapters: dict[str, str] = {}
        """Name to folder."""
        self.pause = 0.0
        """Seconds before every word."""
        self.seen: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        """Bodies, by path."""
        self.sent = self.aborts = self.answered = self.port = self.started = 0
        self.faults: defaultdict[str, deque[Fault]] = defaultdict(deque)
        self.always: dict[str, Fault] = {}
        self.open: set[asyncio.StreamWriter] = set()
        self.broken: list[BaseException] = []
        """Mistakes of this server itself."""

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def next(self, path: str, *faults: Fault) -> None:
        """What becomes of the next requests for that path; of those after them what `always` says, or what vLLM does."""
        self.faults[path].extend(faults)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Listen, again on the same port if it did before; adapters that were loaded at run time are gone."""
        self.adapters.clear()
        self.started += 1000
        began = threading.Event()
        self.thread = threading.Thread(target=lambda: asyncio.run(self._serve(began)), name="fault-server")
        self.thread.start()
        assert began.wait(10)

    def stop(self) -> None:
        """As kill -9 does to a server: every connection is closed in the middle of what it says, then nobody listens."""
        if self.thread.is_alive():
            self.loop.call_soon_threadsafe(self.stopped.set)
            self.thread.join(10)
        assert not self.thread.is_alive() and not self.broken, self.broken

    async def _serve(self, began: threading.Event) -> None:
        self.loop, self.stopped = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._connected, "127.0.0.1", self.port, backlog=512)
        self.port = server.sockets[0].getsockname()[1]
        began.set()
        await self.stopped.wait()
        server.close()
        for writer in self.open:
            writer.transport.abort()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open.add(writer)
        try:
            with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):  # the last: it is stopped
                while not writer.is_closing():
                    await self._one(reader, writer)
        finally:
            self.open.discard(writer)
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Read a request, answer it, and see whether he who asked is still there."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        path = head.split(" ", 2)[1]
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head.split("\r\n")[1:])}
        body = json.loads(await reader.readexactly(int(headers.get("content-length", 0))) or b"{}")
        self.seen[path].append(body)
        answer = Answer(self, writer, path, body)
        fault = self.faults[path].popleft() if self.faults[path] else self.always.get(path)
        guarded = path.startswith("/v1") and self.key and headers.get("authorization") != f"Bearer {self.key}"
        doing = asyncio.ensure_future(unauthorized(answer) if guarded else fault(answer) if fault else self._healthy(answer))
        gone = asyncio.ensure_future(reader.read(1))
        await asyncio.wait({doing, gone}, return_when=asyncio.FIRST_COMPLETED)
        failed = doing.exception() if doing.done() else None
        left = not doing.done() or isinstance(failed, ConnectionError)
        self.aborts, self.answered = self.aborts + left, self.answered + (not left)
        self.broken += [failed] if failed and not left else []
        for task in (doing, gone):
            task.cancel()
        await asyncio.gather(doing, gone, return_exceptions=True)
        if left:
            writer.close()

    async def _healthy(self, answer: Answer) -> None:
        said: dict[str, Fault] = {"/health": lambda one: one.whole(200, ""), MODELS: self._models, LOAD: self._load,
                                  UNLOAD: self._unload, SCORE: self._score, CHAT: self._chat, "/metrics": self._metrics}
        await said.get(answer.path, no_such_route)(answer)

    async def _metrics(self, answer: Answer) -> None:
        await answer.whole(200, f"# TYPE x gauge\nprocess_start_time_seconds {self.started}\n", "text/plain")

    async def _models(self, answer: Answer) -> None:
        rows = [{"id": self.base, "root": "/models/base", "parent": None, "max_model_len": 2048}]
        for name, path in self.adapters.items():
            rows.append({"id": name, "root": path, "parent": self.base, "max_model_len": None})
        await answer.whole(200, json.dumps({"object": "list", "data": [{"object": "model"} | row for row in rows]}))

    async def _load(self, answer: Answer) -> None:
        name, path = answer.body["lora_name"], answer.body["lora_path"]
        if name in self.adapters:
            await answer.error(400, f"The lora adapter '{name}' has already been loaded. If you want to load the adapter in "
                               "place, set 'load_inplace' to True.")
        elif not (Path(path) / "adapter_config.json").is_file():
            await answer.error(404, f"Loading lora {name} failed: No adapter found for <path>", "NotFoundError")
        else:
            self.adapters[name] = path
            await answer.whole(200, f"Success: LoRA adapter '{name}' added successfully.", "text/plain")

    async def _unload(self, answer: Answer) -> None:
        name = answer.body["lora_name"]
        if self.adapters.pop(name, None) is None:
            await answer.error(404, f"The lora adapter '{name}' cannot be found.", "NotFoundError")
        else:
            await answer.whole(200, f"Success: LoRA adapter '{name}' removed successfully.", "text/plain")

    async def _score(self, answer: Answer) -> None:
        if answer.model not in (self.base, *self.adapters):
            return await lost(answer)
        tuned = answer.model in self.adapters
        said = follows(tuned, answer.body["prompt"], answer.body["max_tokens"])
        choice = {"index": 0, "text": "x", "finish_reason": "length", "token_ids": said,
                  "logprobs": {"token_logprobs": [chance(tuned, token) for token in said]}}
        await answer.whole(200, json.dumps({"id": "cmpl-1", "model": answer.model, "choices": [choice]}))

    async def _chat(self, answer: Answer) -> None:
        if answer.model not in (self.base, *self.adapters):
            return await lost(answer)
        await answer.begin(0)
        for word in self.words:
            await asyncio.sleep(self.pause)
            await answer.event(answer.line({"content": word}))
        await answer.finish()


async def unauthorized(answer: Answer) -> None:
    """Its `error` is a text here, and an object everywhere else."""
    await answer.whole(401, json.dumps({"error": "Unauthorized"}))


async def no_such_route(answer: Answer) -> None:
    """As FastAPI says it."""
    await answer.whole(404, json.dumps({"detail": "Not Found"}))


async def lost(answer: Answer) -> None:
    """It was restarted, or somebody unloaded the adapter."""
    await answer.error(404, f"The model `{answer.model}` does not exist. Valid aliases: {answer.server.base}.", "NotFoundError",
                       "model")
