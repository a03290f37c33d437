"""/healthz, /readyz and /metrics: whether the process lives, whether it can answer, and what it counts.

What stands behind it (servers' addresses, paths) is not told. The look at the database and the servers is kept for a moment,
since anybody may ask.
"""

import time
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel

from agent.errors import RetuneError
from agent.surfaces.http.errors import Refused, log
from agent.surfaces.http.shared import Here, Shared, refusals
from agent.surfaces.http.tenants import Admin

router = APIRouter(tags=["health"])
KEPT_S = 2.0
MIXED = "Some servers lack a champion: a promotion or a restart is on its way, and each answer names its bundle."


class Alive(BaseModel):
    """The process answers."""

    alive: bool


class Check(BaseModel):
    """One thing that must be well."""

    name: str
    ok: bool
    detail: str


class Ready(BaseModel):
    """Whether turns can be answered."""

    ready: bool
    checks: list[Check]


@router.get("/healthz")
async def alive() -> Alive:
    """The process lives; nothing else is looked at."""
    return Alive(alive=True)


@router.get("/readyz", response_model=Ready, responses={503: {"model": Ready, "description": "Not ready; `checks` says why."}})
def ready(at: Here) -> Response:
    """Models are loaded, the database can be written, and where servers write the answers, one of them is well."""
    checks = [*examined(at), *([check("stopping", False, "This server is being stopped.")] if at.stopping else [])]
    fine = all(each["ok"] for each in checks)
    return JSONResponse({"ready": fine, "checks": checks}, 200 if fine else 503)


@router.get("/metrics", response_class=Response, responses={
    200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "In Prometheus' text format."},
    **refusals(401, 403, 404, 429)})
def metrics(at: Here, _: Admin) -> Response:
    """What is counted, for Prometheus."""
    if at.metrics is None:
        raise Refused(404, "Metrics are not served here.")
    body, kind = at.metrics.render()
    return Response(body, headers={"Content-Type": kind})


def examined(at: Shared) -> list[dict[str, Any]]:
    """The checks, at most `KEPT_S` old, or older while somebody else looks: a database that hangs costs one thread."""
    if not at.looking.acquire(blocking=not at.looked):
        return at.looked
    try:
        if not at.looked or time.monotonic() - at.looked_at > KEPT_S:
            at.looked, at.looked_at = [models(at), database(at), *servers(at)], time.monotonic()
        return at.looked
    finally:
        at.looking.release()


def models(at: Shared) -> dict[str, Any]:
    """Whether every domain's models are there."""
    return check("models", at.warm, "They are loaded." if at.warm else "They are still being loaded, or the log says why not.")


def database(at: Shared) -> dict[str, Any]:
    """Whether a transaction can begin that writes."""
    try:
        with at.store.writing():
            return check("database", True, "It can be written.")
    except RetuneError as error:
        log.warning("%s", error)
        return check("database", False, "It cannot be written; the server's log says why.")


def servers(at: Shared) -> list[dict[str, Any]]:
    """Whether a vLLM server is well, and whether all of them have the champions' adapters."""
    if not at.settings.served:
        return []
    from agent.vllm import fleet
    from agent.vllm.spread import spread

    known = fleet.servers(at.settings)
    well = [server for server in known if server.healthy()]
    fine = bool(well) or at.settings.fallback
    rows = [check("servers", fine, f"{len(well)} of {len(known)} vLLM servers are well"
                  + ("" if well else "; the model in process answers" if fine else "") + ".")]
    if well:
        mixed = spread(at.settings, known)["mixed"]
        rows.append(check("adapters", True, MIXED if mixed else "Every server has every champion that any has."))
    return rows


def check(name: str, ok: bool, detail: str) -> dict[str, Any]:
    """`Check` as a table."""
    return {"name": name, "ok": ok, "detail": detail}
