"""What a PostgreSQL server is asked before it is trusted: may we write, does it keep what it confirms. Knows no rows."""

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from agent import schema

OLDEST = 14
"""The oldest version that its makers still mend."""
_RISKS = {"fsync": "what it confirms may be on no disk", "full_page_writes": "a power cut may damage its tables",
          "synchronous_commit": "it confirms before its disk does"}
_TABLES = [each.name for each in vars(schema).values() if isinstance(each, sa.Table) and each is not schema.places]


@dataclass(frozen=True, slots=True)
class Server:
    """What a server says of itself."""

    version: str
    """Such as 15.18."""
    empty: bool
    """Whether it has none of Retune's tables yet."""
    doubts: list[str]
    """What would lose confirmed turns if its machine failed, each a sentence with the next step."""


def look(at: sa.Connection, empty: bool) -> Server:
    """Ask it; changes nothing."""
    doubts = [f"It runs with {name} = off, so {why}; set it to on." for name, why in _RISKS.items() if _show(at, name) == "off"]
    return Server(_version(at), empty, doubts)


def problems(at: sa.Connection, empty: bool) -> list[str]:
    """Why turns cannot be kept here, each a sentence with the next step; `empty`: without Retune's tables."""
    found = []
    if int(_show(at, "server_version_num")) < OLDEST * 10_000:
        found.append(f"PostgreSQL {_version(at)} is too old; use {OLDEST} or newer.")
    if at.exec_driver_sql("SELECT pg_is_in_recovery()").scalar() or _show(at, "default_transaction_read_only") == "on":
        found.append("The server takes no changes, as a standby does; name the primary in the setting `database`.")
    elif not empty:
        may = sa.text("SELECT bool_and(has_table_privilege(name, right_)) FROM unnest(CAST(:names AS text[])) name,"
                      " unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) right_")
        if not at.execute(may, {"names": _TABLES}).scalar():
            found.append("The role in the setting `database` may not read and write all of Retune's tables; grant it, or name "
                         "their owner.")
    return found


def _version(at: sa.Connection) -> str:
    return str(_show(at, "server_version")).split()[0]


def _show(at: sa.Connection, name: str) -> Any:
    return at.exec_driver_sql(f"SHOW {name}").scalar()
