"""Keys of the HTTP surface: who may call, for which tenant and for what. Of a key its sha256 alone is kept.

A tenant's sessions lie side by side by their ids, which begin with its name. PostgreSQL needs an index in plain byte order
for that, as the order of a language may pass over the slash.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Make the table, and on PostgreSQL the index; nothing that is there changes."""
    op.create_table(
        "keys",
        sa.Column("hash", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, nullable=False, unique=True),
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("scopes", sa.JSON, nullable=False),
        sa.Column("rate", sa.Integer, nullable=False),
        sa.Column("at_once", sa.Integer, nullable=False),
        sa.Column("created", sa.Text, nullable=False),
        sa.Column("revoked", sa.Text, nullable=False, server_default=""),
    )
    if op.get_bind().dialect.name == "postgresql":
        op.get_bind().exec_driver_sql('CREATE INDEX sessions_by_bytes ON sessions (id COLLATE "C")')
