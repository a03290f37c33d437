"""API keys: who may call over HTTP, for which tenant, for what and how often.

Knows the table of keys; does not know HTTP. A secret is 256 random bits, told once when the key is made; the table holds its
sha256, which needs no salt and no slow hash as there is nothing to guess. A revoked key keeps its row and its name, since
feedback is kept under that name and must not become somebody else's.
"""

import hashlib
import re
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from agent.errors import DataError
from agent.schema import keys

if TYPE_CHECKING:
    from agent.store import Store

SCOPES = ("chat", "feedback", "review", "admin")
"""What a key may do: talk and read its tenant's conversations; teach; answer hand-offs; change what serves."""
NAME = "[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}"
"""Names of keys and tenants and ids of sessions: the slash between them comes from nobody but Retune."""
PREFIX = "rtk_"
RATE = 120
AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Key:
    """A key without its secret."""

    name: str
    tenant: str
    scopes: tuple[str, ...]
    rate: int = RATE
    """Requests a minute."""
    at_once: int = AT_ONCE
    """Requests that may be open at the same time."""
    created: str = ""
    revoked: str = ""
    """When it was revoked (ISO, UTC), or empty."""


def add(store: "Store", name: str, tenant: str, scopes: Collection[str], rate: int = RATE,
        at_once: int = AT_ONCE) -> tuple[str, Key]:
    """Make a key and give its secret, which nobody can be told again. DataError for a name that was used before."""
    for what, said in (("name", name), ("tenant", tenant)):
        if not re.fullmatch(NAME, said):
            raise DataError(f"The {what} {said!r} cannot be used; take 1 to 64 letters, digits, '_', '-' or, not first, '.'.")
    if unknown := [scope for scope in scopes if scope not in SCOPES]:
        raise DataError(f"There is no scope {unknown[0]!r}; scopes are {', '.join(SCOPES)}.")
    if not scopes:
        raise DataError(f"A key without a scope may do nothing; give it some of {', '.join(SCOPES)}.")
    if rate < 1 or at_once < 1:
        raise DataError("A key that may ask nothing is of no use; give a rate and a number at once of at least 1.")
    secret = PREFIX + secrets.token_urlsafe(32)
    made = Key(name, tenant, tuple(scope for scope in SCOPES if scope in scopes), rate, at_once, _now())
    row = {"hash": _hash(secret), "name": name, "tenant": tenant, "scopes": made.scopes, "rate": rate, "at_once": at_once,
           "created": made.created, "revoked": ""}
    with store.writing() as at:
        if at.execute(sa.select(keys.c.name).where(keys.c.name == name)).scalar() is not None:
            raise DataError(f"There is or was a key {name!r}; choose another name, as what it said is kept under that one.")
        at.execute(keys.insert().values(row))
    return secret, made


def find(store: "Store", secret: str) -> Key | None:
    """The key that a secret belongs to; None for one that is unknown or revoked."""
    with store.reading() as at:
        row = at.execute(sa.select(keys).where(keys.c.hash == _hash(secret))).mappings().first()
    return _key(row) if row and not row["revoked"] else None


def listed(store: "Store") -> list[Key]:
    """Every key, the oldest first, revoked ones too."""
    with store.reading() as at:
        return [_key(row) for row in at.execute(sa.select(keys).order_by(keys.c.created, keys.c.name)).mappings()]


def revoke(store: "Store", name: str) -> Key:
    """Let a key open nothing from now on; again is nothing. DataError for a name that is not there."""
    with store.writing() as at:
        at.execute(keys.update().where((keys.c.name == name) & (keys.c.revoked == "")).values(revoked=_now()))
        row = at.execute(sa.select(keys).where(keys.c.name == name)).mappings().first()
    if row is None:
        raise DataError(f"There is no key {name!r}; `retune keys list` shows them.")
    return _key(row)


def any_made(store: "Store") -> bool:
    """Whether there was ever a key: from the first one on every caller needs one, also when all are revoked."""
    with store.reading() as at:
        return at.execute(sa.select(keys.c.name).limit(1)).scalar() is not None


def _key(row: Any) -> Key:
    return Key(row["name"], row["tenant"], tuple(row["scopes"]), row["rate"], row["at_once"], row["created"], row["revoked"])


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")
