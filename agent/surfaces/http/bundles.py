"""/v1/bundles: a domain's bundles, which of them serves, and changing that. The rules are those of `retune promote`."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path
from pydantic import BaseModel, Field

from agent.errors import BundleError
from agent.registry import Registry
from agent.surfaces import keeping
from agent.surfaces.http.completions import WHOLE, Strict
from agent.surfaces.http.errors import Refused
from agent.surfaces.http.shared import Here, Shared, refusals
from agent.surfaces.http.tenants import Admin

router = APIRouter(tags=["bundles"])
DomainName = Annotated[str, Path(min_length=1, max_length=100)]


class Held(BaseModel):
    """A bundle."""

    bundle: str
    version: int
    alias: list[str] = Field(description="champion, previous, challenger, or that it is on trial.")
    made: str | None = Field(description="When, ISO.")
    parent: str | None
    recipe: str | None
    verdict: Literal["promote", "refuse", "abstain"] | None = Field(description="Of its comparison with the champion, if any.")


class Bundles(BaseModel):
    """All of a domain's, the oldest first."""

    object: Literal["list"]
    domain: str
    serving: str = Field(description="The bundle that answers just now; it follows the champion within a second.")
    data: list[Held]


class Rollback(Strict):
    """Why; it stands in the audit."""

    reason: str = Field("asked for over HTTP", min_length=1, max_length=500)


class Promotion(Rollback):
    """Which, and why."""

    version: Annotated[int, Field(ge=1, le=10**9), WHOLE]
    force: bool = Field(False, description="Even if its report does not say promote.")


@router.get("/v1/bundles/{domain}", responses=refusals(400, 401, 403, 404, 409, 429))
def list_bundles(domain: DomainName, at: Here, _: Admin) -> Bundles:
    """What there is, what serves and what was said of each."""
    return shown(at, domain)


@router.post("/v1/bundles/{domain}/promote", responses=refusals(400, 401, 403, 404, 408, 409, 413, 429))
def promote_bundle(domain: DomainName, said: Promotion, at: Here, who: Admin) -> Bundles:
    """Make a bundle the champion; running agents go over to it. 409 if its report does not say so, unless forced."""
    registry = registry_of(at, domain)
    if said.version not in {each.version for each in registry.versions()}:
        raise Refused(404, f"{domain} has no bundle {said.version}; GET /v1/bundles/{domain} lists them.", "version")
    try:
        keeping.make_champion(registry, at.settings, str(said.version), said.reason, who.name, said.force)
    except BundleError as error:
        raise Refused(409, str(error), "version", "not_promoted") from error
    return shown(at, domain)


@router.post("/v1/bundles/{domain}/rollback", responses=refusals(400, 401, 403, 404, 408, 409, 413, 429))
def roll_back(domain: DomainName, said: Rollback, at: Here, who: Admin) -> Bundles:
    """Make the champion before the champion again. 409 where there is none."""
    registry = registry_of(at, domain)
    try:
        registry.rollback(said.reason, who.name, lambda old: keeping.check_fits(registry, at.settings, old))
    except BundleError as error:
        raise Refused(409, str(error), code="not_rolled_back") from error
    return shown(at, domain)


def registry_of(at: Shared, domain: str) -> Registry:
    """Of a domain that is served; Refused (404)."""
    return Registry(at.agent(domain).domain, at.settings.home)


def shown(at: Shared, domain: str) -> Bundles:
    """As it is now."""
    registry = registry_of(at, domain)
    try:
        aliases, canary = registry.aliases(), registry.canary()
    except BundleError as error:
        raise Refused(409, str(error), code="damaged_aliases") from error
    rows: list[dict[str, Any]] = []
    for each in registry.versions():
        told = {name: str(value) if (value := each.manifest.get(name)) else None for name in ("made", "parent", "recipe")}
        verdict = keeping.decision(each)
        rows.append(told | {"bundle": each.name, "version": each.version, "verdict": verdict if verdict in DECISIONS else None,
                            "alias": keeping.labels(each.version, aliases, canary)})
    return Bundles.model_validate({"object": "list", "domain": domain, "serving": at.agent(domain).serving.bundle.name,
                                   "data": rows})


DECISIONS = ("promote", "refuse", "abstain")
