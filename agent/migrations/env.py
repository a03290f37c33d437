"""Alembic runs this; `agent.store` hands it a connection that is already in a transaction."""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"], version_table="retune_version"
)
context.run_migrations()
