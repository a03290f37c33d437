"""What stands before the app: who comes in, how often, and how much they may bring. ASGI alone, so that all of it comes first.

The order is that of cost: too many calls at once, a foreign Host or Origin, the key, what the key may still ask, a place for
the turn, and only then the body, counted while it comes. A call that is refused has cost no memory but its headers.
"""

import asyncio
import getpass
import ipaddress
from contextlib import ExitStack
from typing import Any
from urllib.parse import urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agent import keys
from agent.errors import RetuneError
from agent.store import Store
from agent.surfaces.http.errors import Refused, busy, refusal
from agent.surfaces.http.limits import Allowances, Turns
from agent.surfaces.http.tenants import Principal

MOST_OPEN = 512
"""Calls that are open at the same time, whatever they are."""
BODY_S = 15.0
"""Longest wait for a body to arrive."""
TALK = ("POST", "/v1/chat/completions")
NO_KEY = "This needs a key; send it as `Authorization: Bearer rtk_...`. `retune keys add` makes one."
HEADERS = {"x-content-type-options": "nosniff", "referrer-policy": "no-referrer", "cross-origin-resource-policy": "same-origin",
           "content-security-policy": "default-src 'none'; frame-ancestors 'none'", "cache-control": "no-store"}
"""Of every answer that has not its own."""


class Gate:
    """The app behind it sees calls that may come in, each with `state["principal"]` and, for a turn, `state["place"]`."""

    def __init__(self, app: ASGIApp, store: Store, turns: Turns, loopback: bool, most_body: int, origins: tuple[str, ...] = (),
                 most_open: int = MOST_OPEN, body_s: float = BODY_S) -> None:
        """`loopback`: nobody but this machine can connect, so that no key is needed before the first is made."""
        self.app, self.store, self.turns, self.loopback, self.origins = app, store, turns, loopback, origins
        self.most_body, self.most_open, self.body_s = most_body, most_open, body_s
        self.allowances, self.open = Allowances(), 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One call."""
        if scope["type"] != "http":  # the lifespan; there are no web sockets
            return await self.app(scope, receive, send)
        self.open += 1
        try:
            with ExitStack() as stack:
                receive = await self._enter(scope, receive, stack)
                await self.app(scope, receive, _with_headers(send))
        except Refused as error:
            await error.answer()(scope, receive, _with_headers(send))
        except RetuneError as error:  # of the store, before the app
            await refusal(error).answer()(scope, receive, _with_headers(send))
        finally:
            self.open -= 1

    async def _enter(self, scope: Scope, receive: Receive, stack: ExitStack) -> Receive:
        """Raises Refused, or gives what the app reads the body from; `stack` gives back what was taken."""
        if self.open > self.most_open:
            raise busy(1, "This server has more calls open than it may; ask again in a moment.", "overloaded")
        headers, state = Headers(scope=scope), scope.setdefault("state", {})
        keyless = self.loopback and not await run_in_threadpool(keys.any_made, self.store)
        if keyless:
            self._check_local(headers)
        if not is_guarded(scope["path"]):
            return receive
        said = headers.get("content-length", "0")
        if not said.isdecimal() or int(said) > self.most_body:
            raise self._too_large()
        who: Principal = Principal(getpass.getuser()) if keyless else await self._principal(headers)
        state["principal"] = who
        if who.key:
            stack.enter_context(self.allowances.one(who.key))
        if (scope["method"], scope["path"]) == TALK and "chat" in who.scopes:
            state["place"] = place = await self.turns.enter()
            stack.callback(place.leave)
        return await self._read(receive)

    def _check_local(self, headers: Headers) -> None:
        """Without a key a page of another site must not reach us, by its name for this address or from a browser tab here."""
        host = headers.get("host", "")
        if not is_loopback(_name(host)):
            raise Refused(403, "Without a key this server answers to localhost alone; make a key with `retune keys add` to use "
                          "it under another name.", code="foreign_host")
        origin = headers.get("origin")
        if origin is not None and origin not in self.origins and urlsplit(origin).netloc.lower() != host.lower():
            raise Refused(403, "Without a key this server answers no page of another site; make a key with `retune keys add`.",
                          code="foreign_origin")

    async def _principal(self, headers: Headers) -> Principal:
        kind, _, secret = headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not secret.strip():
            raise Refused(401, NO_KEY, code="missing_api_key", headers={"WWW-Authenticate": "Bearer"})
        key = await run_in_threadpool(keys.find, self.store, secret.strip())
        if key is None:
            raise Refused(401, "This key opens nothing: it is mistyped or was revoked; `retune keys list` shows all.",
                          headers={"WWW-Authenticate": "Bearer"})
        return Principal(key.name, key.tenant, key.scopes, key)

    async def _read(self, receive: Receive) -> Receive:
        """The whole body, counted as it comes, and then whatever else comes."""
        whole, more = bytearray(), True
        try:
            async with asyncio.timeout(self.body_s):
                while more:
                    message = await receive()
                    if message["type"] != "http.request":
                        raise Refused(400, "The body broke off; send it whole.", code="invalid_body")
                    whole += message.get("body", b"")
                    more = message.get("more_body", False)
                    if len(whole) > self.most_body:
                        raise self._too_large()
        except TimeoutError:
            raise Refused(408, f"The body did not arrive within {self.body_s:.0f} seconds; send it faster.") from None
        parts: list[Message] = [{"type": "http.request", "body": bytes(whole), "more_body": False}]

        async def replay() -> Message:
            return parts.pop() if parts else await receive()

        return replay

    def _too_large(self) -> Refused:
        return Refused(413, f"The body is larger than {self.most_body:,} bytes, which is all that is read; send less, such as "
                       "the last message and a session instead of the whole transcript.")


def is_guarded(path: str) -> bool:
    """Whether a path needs a principal: everything but the page, the docs and what tells whether we are well."""
    return path.startswith(("/v1", "/metrics"))


def is_loopback(name: str) -> bool:
    """Whether a host name means this machine, whatever a name server says."""
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


def _name(host: str) -> str:
    """The name in a Host header, without its port."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def _with_headers(send: Send) -> Send:
    async def wrapped(message: Message) -> None:
        if message["type"] == "http.response.start":
            there = {name.lower() for name, _ in message["headers"]}
            more: list[Any] = [(name.encode(), value.encode()) for name, value in HEADERS.items() if name.encode() not in there]
            message = message | {"headers": [*message["headers"], *more]}
        await send(message)

    return wrapped
