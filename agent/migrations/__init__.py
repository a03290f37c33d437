"""The schema, one numbered file in `versions/` for each change; Alembic runs them from here.

A file's first four characters are its revision, so that a start need not import Alembic.
"""

from pathlib import Path

import sqlalchemy as sa

_FOLDER = Path(__file__).resolve().parent


def known() -> list[str]:
    """Every revision, oldest first."""
    return sorted(file.name[:4] for file in (_FOLDER / "versions").glob("[0-9]*.py"))


def version(at: sa.Connection) -> str | None:
    """The database's revision; None where there is none of Retune's tables."""
    if not sa.inspect(at).has_table("retune_version"):
        return None
    return at.exec_driver_sql("SELECT max(version_num) FROM retune_version").scalar()


def upgrade(at: sa.Connection) -> None:
    """Bring the database to the newest revision, inside the transaction that is open."""
    from alembic import command
    from alembic.config import Config

    config = Config(attributes={"connection": at})
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    command.upgrade(config, "head")
