"""What an error of a database means, as a sentence with the next step. Knows SQLite's and PostgreSQL's codes.

PostgreSQL quotes rows in the details of an error, so only its first line is told and the rest does not travel on.
"""

import errno
from typing import Any

import sqlalchemy as sa

from agent.errors import StoreError

DAMAGED = (
    "{} is damaged and was left as it is; move it away or restore a backup, then start again; "
    "`retune doctor` says more."
)
FORBIDDEN = "{} cannot be written; give yourself permission for the file and its folder."
HELD = "{} is held by another program; wait for it or end it, then try again."
SQLITE = {  # by primary result code
    3: FORBIDDEN,
    5: HELD,
    8: FORBIDDEN,
    10: "The disk under {} reported an error; check it and the space left, then try again.",
    11: DAMAGED,
    13: "{} could not be written because the disk is full; free some space, then try again.",
    14: "{} cannot be opened; check that it is a file and that you may write in its folder.",
    26: DAMAGED,
}
ERRNOS = {errno.EACCES: 8, errno.EPERM: 8, errno.EROFS: 8, errno.ENOSPC: 13}
AWAY = "{} cannot be reached ({}); check that its server runs and that the setting `database` is right, then try again."
CROSSED = "Two programs changed the same rows of {} at once, so this change was not made; try again."
POSTGRESQL = {  # by SQLSTATE
    "25006": "{} takes no changes ({}), as a standby does; name the primary in the setting `database`.",
    "40001": CROSSED,
    "40P01": CROSSED,
    "42501": "The role in the setting `database` may not do that in {} ({}); grant it, or name its owner.",
    "53100": "{} could not be written because its server's disk is full; free some space there, then try again.",
    "53300": "{} takes no more connections ({}); raise its server's max_connections or run fewer agents.",
    "55P03": HELD,
}
CROWDED = "{} is in use by too many at once here, so a connection did not get free in time; ask again when it is calmer."
OTHER = "{} cannot be used ({}); `retune doctor` says more."


def explain(name: str, error: Exception) -> StoreError:
    """The error about the database `name`; its `again` says whether the same may do a moment later."""
    cause: Any = getattr(error, "orig", None) or error  # SQLAlchemy's own text quotes the query
    if isinstance(error, sa.exc.TimeoutError):
        return StoreError(CROWDED.format(name))
    if hasattr(cause, "sqlstate"):
        return _postgresql(name, error, cause)
    code = getattr(cause, "sqlite_errorcode", 0) & 0xFF
    if isinstance(error, OSError):
        code = ERRNOS.get(error.errno or 0, 0)
    return StoreError(SQLITE.get(code, OTHER).format(name, _line(str(cause))))


def _postgresql(name: str, error: Exception, cause: Any) -> StoreError:
    away = getattr(error, "connection_invalidated", False) or cause.sqlstate is None
    said = AWAY if away else POSTGRESQL.get(cause.sqlstate, OTHER)
    made = StoreError(said.format(name, _line(cause.diag.message_primary or str(cause))))
    made.again = away or said == CROSSED
    return made


def _line(text: str) -> str:
    return " ".join(text.split()).rstrip(".")
