"""What wrote each answer, and how many tokens it read and wrote."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add three columns; nothing that is there changes."""
    op.add_column("turns", sa.Column("engine", sa.Text, nullable=False, server_default=""))
    op.add_column("turns", sa.Column("prompt_tokens", sa.Integer, nullable=False, server_default="0"))
    op.add_column("turns", sa.Column("tokens", sa.Integer, nullable=False, server_default="0"))
