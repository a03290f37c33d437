"""Sessions, turns, hand-offs and feedback. Portable types only; times are ISO text in UTC."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the first four tables."""
    op.create_table(
        "sessions",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("domain", sa.Text, nullable=False),
        sa.Column("state", sa.JSON, nullable=False),
        sa.Column("turns", sa.Integer, nullable=False),
        sa.Column("created", sa.Text, nullable=False),
        sa.Column("updated", sa.Text, nullable=False),
    )
    op.create_index("sessions_by_update", "sessions", ["updated"])
    op.create_table(
        "turns",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("session", sa.Text, _reference("sessions.id"), nullable=False),
        sa.Column("seq", sa.Integer, nullable=False),
        sa.Column("domain", sa.Text, nullable=False),
        sa.Column("bundle", sa.Text, nullable=False),
        sa.Column("question", sa.Text, nullable=False),
        sa.Column("reply", sa.Text, nullable=False),
        sa.Column("intent", sa.Text),
        sa.Column("confidence", sa.Float),
        sa.Column("oos", sa.Float),
        sa.Column("ranking", sa.JSON, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("slots", sa.JSON, nullable=False),
        sa.Column("passages", sa.JSON, nullable=False),
        sa.Column("tool", sa.Text, nullable=False),
        sa.Column("tool_arguments", sa.JSON, nullable=False),
        sa.Column("tool_result", sa.Text, nullable=False),
        sa.Column("flags", sa.JSON, nullable=False),
        sa.Column("abstained", sa.Boolean, nullable=False),
        sa.Column("timings_ms", sa.JSON, nullable=False),
        sa.Column("messages", sa.JSON),
        sa.Column("error", sa.Text),
        sa.Column("created", sa.Text, nullable=False),
        sa.UniqueConstraint("session", "seq", name="one_turn_a_place"),
    )
    op.create_index("turns_by_domain", "turns", ["domain", "created"])
    op.create_table(
        "handoffs",
        sa.Column("turn", sa.Text, _reference("turns.id"), primary_key=True),
        sa.Column("session", sa.Text, _reference("sessions.id"), nullable=False),
        sa.Column("domain", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("conversation", sa.JSON, nullable=False),
        sa.Column("created", sa.Text, nullable=False),
    )
    op.create_index("handoffs_by_status", "handoffs", ["status", "created"])
    op.create_table(
        "feedback",
        sa.Column("turn", sa.Text, _reference("turns.id"), primary_key=True),
        sa.Column("author", sa.Text, primary_key=True),
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("value", sa.Text),
        sa.Column("created", sa.Text, nullable=False),
    )


def _reference(column: str) -> sa.ForeignKey:
    return sa.ForeignKey(column, ondelete="CASCADE")
