"""Connections to MCP servers, kept open in a thread of their own.

Knows the protocol's client and what can go wrong with a server: it is not there, ends, hangs or talks nonsense. Does not know
configuration files or what a tool's answer means (that is `mcp`). Each server has one task that opens the connection, says what
the server offers, and holds it until it is told to end; calls of all threads go over it side by side.
"""

import asyncio
import logging
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Coroutine
from concurrent.futures import CancelledError, Future
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any

from langchain_core.tools import ToolException

if TYPE_CHECKING:
    from tools.mcp import Server

log = logging.getLogger(__name__)
AGAIN_S = 10.0
"""How long a server that could not be reached is left alone: a turn does not wait for it a second time."""
MOST_PAGES = 20
CLOSING_S = 10.0
CLOSED = "The connections to tool servers are closed; load the agent again."


@dataclass(frozen=True, slots=True)
class Offered:
    """A tool as its server describes it."""

    name: str
    about: str
    schema: dict[str, Any]
    """JSON Schema of its arguments."""
    changes: bool
    """Unless the server says that it only reads."""


@dataclass(slots=True)
class Link:
    """One server's connection."""

    client: Any = None
    """mcp.Client, entered; None while there is none."""
    offered: list[Offered] = field(default_factory=list)
    """What the server said last."""
    task: asyncio.Task[None] | None = None
    end: asyncio.Event = field(default_factory=asyncio.Event)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    failed: float = 0.0
    """When it could not be reached, by time.monotonic."""


class Loop:
    """The thread with every connection; it starts with the first and ends with `close`."""

    def __init__(self) -> None:
        self._links: dict[str, Link] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._closed = False

    def offered(self, server: "Server") -> list[Offered]:
        """The server's tools; connects if there is no connection yet. ToolException if it cannot be reached."""
        return self._wait(self._submit(self._offered(server)), server)

    def call(self, server: "Server", tool: Offered, arguments: dict[str, Any]) -> Any:
        """The tool's answer (mcp.types.CallToolResult); ToolException with a sentence where there is none."""
        return self._wait(self._submit(self._call(server, tool, arguments)), server)

    def close(self) -> None:
        """End every connection; calls that still run end with a sentence."""
        with self._starting:
            self._closed = True
            loop, thread, self._loop, self._thread = self._loop, self._thread, None, None
        if loop and thread:
            with suppress(Exception):  # a server that does not let go holds up nobody
                asyncio.run_coroutine_threadsafe(self._end_all(), loop).result(CLOSING_S)
            loop.call_soon_threadsafe(loop.stop)
            thread.join(CLOSING_S)

    def _submit(self, work: Coroutine[Any, Any, Any]) -> "Future[Any]":
        with self._starting:
            if self._closed:
                work.close()
                raise ToolException(CLOSED)
            if self._loop is None:
                logging.getLogger("mcp").addHandler(logging.NullHandler())  # a screen need not hear of it
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._run, args=(self._loop,), name="mcp", daemon=True)
                self._thread.start()
            return asyncio.run_coroutine_threadsafe(work, self._loop)

    @staticmethod
    def _run(loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
        finally:
            loop.close()

    @staticmethod
    def _wait(answer: "Future[Any]", server: "Server") -> Any:
        try:
            return answer.result()
        except CancelledError:
            raise ToolException(f"The connection to the tool server {server.name!r} was closed meanwhile.") from None

    async def _offered(self, server: "Server") -> list[Offered]:
        return (await self._opened(server)).offered

    async def _call(self, server: "Server", tool: Offered, arguments: dict[str, Any]) -> Any:
        """Once; a tool that only reads is asked a second time if the connection had ended."""
        for last in (False, True):
            link, begun = await self._opened(server), False
            client = link.client
            try:
                async with asyncio.timeout(server.timeout_s):
                    if tool.changes:  # a connection that died while idle shows here, where nothing was done yet
                        await self._listen(link, client)
                    begun = True
                    return await client.call_tool(tool.name, arguments)
            except TimeoutError as error:
                raise ToolException(f"The tool server {server.name!r} did not answer within {server.timeout_s:g} s. "
                                    f"{_unsure(tool)}") from error
            except Exception as error:  # a server may be anybody's program: whatever comes becomes a sentence
                log.warning("MCP server %s, tool %s: %s", server.name, tool.name, type(error).__name__)  # no word of anybody's
                if not _ended(error):
                    raise ToolException(f"The tool server {server.name!r} could not do that: {_said(error)}") from error
                await self._drop(link, client)
                if last or (tool.changes and begun):
                    raise ToolException(f"The connection to the tool server {server.name!r} broke. {_unsure(tool)}") from error
        raise AssertionError("the second try returns or raises")

    async def _opened(self, server: "Server") -> Link:
        link = self._links.setdefault(server.name, Link())
        async with link.lock:
            if self._closed:
                raise ToolException(CLOSED)
            if link.client is not None:
                return link
            if link.failed and time.monotonic() - link.failed < AGAIN_S:
                raise ToolException(_away(server))
            link.end, opening = asyncio.Event(), asyncio.get_running_loop().create_future()
            link.task = asyncio.create_task(self._hold(server, link, opening, link.end))
            try:
                async with asyncio.timeout(server.timeout_s + 1):  # a program that hangs is ended at leisure
                    await opening
            except Exception as error:
                link.failed = time.monotonic()
                raise ToolException(_away(server)) from error
            link.failed = 0.0
            return link

    async def _hold(self, server: "Server", link: Link, opening: "asyncio.Future[None]", end: asyncio.Event) -> None:
        """Open the connection, say so by `opening`, and keep it until `end`; all in one task, as the client wants it."""
        from mcp import Client

        client = None
        with tempfile.TemporaryFile("w+", errors="replace") as errors:
            try:
                async with asyncio.timeout(server.timeout_s) as patience, _transport(server, errors) as transport:
                    async with Client(transport, cache=None) as client:
                        await self._listen(link, client)
                        patience.reschedule(None)
                        link.client = client
                        opening.set_result(None)
                        await end.wait()
            except Exception as error:  # of a program that may be anybody's, or of the network
                errors.seek(0)
                log.warning("MCP server %s: %s %s", server.name, _why(error), errors.read()[-500:].strip())
                if not opening.done():
                    opening.set_exception(error)
            finally:
                if link.client is client:
                    link.client = None
                if not opening.done():
                    opening.cancel()

    @staticmethod
    async def _listen(link: Link, client: Any) -> None:
        """Ask the server what it offers."""
        cursor, found = None, []
        for _ in range(MOST_PAGES):
            page = await client.list_tools(cursor=cursor)
            found += page.tools
            if not (cursor := page.next_cursor):
                break
        link.offered = [Offered(each.name, each.description or each.title or "", dict(each.input_schema), _changes(each))
                        for each in found]

    @staticmethod
    async def _drop(link: Link, client: Any) -> None:
        """Let go of a connection that has ended, unless another call did so already."""
        async with link.lock:
            if link.client is client:
                link.client = None
                link.end.set()

    async def _end_all(self) -> None:
        for link in self._links.values():
            link.end.set()
        if tasks := [link.task for link in self._links.values() if link.task]:
            await asyncio.wait(tasks, timeout=CLOSING_S - 1)
        mine = asyncio.current_task()
        for task in asyncio.all_tasks():
            if task is not mine:
                task.cancel()
        await asyncio.sleep(0)


@asynccontextmanager
async def _transport(server: "Server", errors: IO[str]) -> AsyncIterator[Any]:
    """How the server is talked to; what a program writes to its standard error goes to `errors`."""
    from mcp.client.stdio import StdioServerParameters, stdio_client

    if server.command:
        wanted = StdioServerParameters(command=server.command, args=list(server.args), env=dict(server.env), cwd=server.cwd)
        yield stdio_client(wanted, errlog=errors)
        return
    import httpx2
    from mcp.client.streamable_http import streamable_http_client

    patience = httpx2.Timeout(server.timeout_s, read=max(300.0, server.timeout_s))  # a stream of notices is long silent
    async with httpx2.AsyncClient(headers=dict(server.headers), timeout=patience) as client:
        yield streamable_http_client(server.url, http_client=client)  # follows no redirect to another origin


def _changes(tool: Any) -> bool:
    hints = tool.annotations
    return not (hints and hints.read_only_hint and not hints.destructive_hint)


def _ended(error: Exception) -> bool:
    """Whether the connection is no more, rather than the server saying no."""
    from mcp import MCPError
    from mcp.types import CONNECTION_CLOSED

    if isinstance(error, MCPError):  # over HTTP a server that was started anew says the second
        return error.code == CONNECTION_CLOSED or error.message == "Session terminated"
    return not isinstance(error, RuntimeError | ValueError)


def _said(error: Exception) -> str:
    from mcp import MCPError

    from tools.mcp import readable

    return readable(str(error), 300) if isinstance(error, MCPError) else "its answer was not what it promises."


def _away(server: "Server") -> str:
    how = "started" if server.command else "reached"
    return f"The tool server {server.name!r} cannot be {how} just now. Please try again later, or ask for a person."


def _unsure(tool: Offered) -> str:
    return "Whether it was done is not known; please look before you try again." if tool.changes else "Please try again."


def _why(error: BaseException) -> str:
    """The innermost reasons: task groups wrap them."""
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(_why(each) for each in error.exceptions)
    return f"{type(error).__name__}: {error}"
