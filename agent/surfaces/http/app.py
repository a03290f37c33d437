"""The app: routes, the gate before them, the shape of errors and the OpenAPI file. What a turn is stays in `agent.agent`."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.middleware.cors import CORSMiddleware

from agent.agent import Agent
from agent.errors import RetuneError
from agent.serving import Serving
from agent.surfaces.http import bundles, chat, feedback, handoffs, health, page, sessions
from agent.surfaces.http.catalogue import Catalogue
from agent.surfaces.http.errors import answer_errors, log
from agent.surfaces.http.gate import Gate, is_loopback
from agent.surfaces.http.limits import PATIENCE_S, Turns
from agent.surfaces.http.shared import Shared
from agent.surfaces.http.transcripts import Transcripts

AGAIN_S = 5.0
ABOUT = """Domain agents over OpenAI's chat completions, with sessions, feedback, hand-offs and bundles beside them.

Keys are sent as `Authorization: Bearer rtk_...`; without any key, on this machine alone, none is needed. Every error has the
shape `{"error": {"message", "type", "param", "code"}}`, and its message says the next step."""


def make_app(agents: Sequence[Agent], host: str = "127.0.0.1", *, metrics: Any | None = None, patience: float = PATIENCE_S,
             load: Callable[[Agent, str], Serving] | None = None) -> FastAPI:
    """An ASGI app over agents of one database; whoever made them closes them after it.

    `host`: the address it will listen on; off loopback nobody comes in without a key. `metrics`: what /metrics renders.
    `patience`: longest wait for a place, in seconds. `load`: as `Catalogue` takes it. Limits are those of the settings.
    """
    named = {agent.domain.name: agent for agent in agents}
    assert named, "an app needs an agent"
    settings, store = agents[0].settings, agents[0].store
    turns = Turns(settings.serve_turns, patience=patience)
    shared = Shared(named, store, settings, Catalogue(named, load), turns, Transcripts(), metrics)
    app = FastAPI(title="Retune", version=version("retune"), description=ABOUT, docs_url=None, redoc_url=None,
                  redirect_slashes=False, generate_unique_id_function=lambda route: route.name, lifespan=_lifespan)
    app.state.shared = shared
    for room in (chat, feedback, sessions, handoffs, bundles, health, page):
        app.include_router(room.router)
    answer_errors(app)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    origins = tuple(each.strip().rstrip("/") for each in settings.serve_origins.split(",") if each.strip())
    app.add_middleware(Gate, store=store, turns=turns, loopback=is_loopback(host), most_body=settings.serve_body,
                       origins=origins)
    if origins:
        app.add_middleware(CORSMiddleware, allow_origins=origins, allow_methods=["GET", "POST", "PATCH", "DELETE"],
                           allow_headers=["Authorization", "Content-Type", "X-Session-Id"],
                           expose_headers=["X-Session-Id", "Retry-After"])
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    shared: Shared = app.state.shared
    warming = asyncio.create_task(_warm(shared))
    try:
        yield
    finally:
        shared.stopping = True
        warming.cancel()
        with suppress(asyncio.CancelledError):
            await warming
        await shared.turns.end(0)


async def _warm(shared: Shared) -> None:
    """Load every model, so that the first turn does not; a server that is away is asked again."""
    for agent in shared.agents.values():
        while True:
            try:
                await asyncio.to_thread(agent.serving.warm)
                break
            except RetuneError as error:
                log.warning("%s", error)
                await asyncio.sleep(AGAIN_S)
    shared.warm = True


def _openapi(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI file without FastAPI's own error, which is never sent."""
    if app.openapi_schema is None:
        table = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        for path in table["paths"].values():
            for operation in path.values():
                operation["responses"].pop("422", None)
        for name in ("HTTPValidationError", "ValidationError"):
            table["components"]["schemas"].pop(name, None)
        app.openapi_schema = table
    return app.openapi_schema
