"""Conversations have a name, can be laid away and searched; who wished a hand-off and who took it is known.

SQLite: an FTS5 index of trigrams, which also finds Chinese and parts of words (since SQLite 3.34, and the store needs
3.35). It holds no second copy of the text. It goes by `places`, as rows of `turns` have no number that VACUUM keeps.
PostgreSQL: an index over words as they stand, since no language may be assumed.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

SQLITE = (
    """CREATE TABLE places (
        id INTEGER PRIMARY KEY,
        turn TEXT NOT NULL UNIQUE REFERENCES turns(id) ON DELETE CASCADE
    )""",
    """CREATE VIEW said AS
        SELECT places.id AS place, turns.question AS question, turns.reply AS reply
        FROM places JOIN turns ON turns.id = places.turn""",
    "CREATE VIRTUAL TABLE words USING fts5(question, reply, content='said', content_rowid='place', tokenize='trigram')",
    "INSERT INTO places (turn) SELECT id FROM turns ORDER BY created",
    "INSERT INTO words (words) VALUES ('rebuild')",
    """CREATE TRIGGER words_of_new_turns AFTER INSERT ON turns BEGIN
        INSERT INTO places (turn) VALUES (new.id);
        INSERT INTO words (rowid, question, reply) SELECT id, new.question, new.reply FROM places WHERE turn = new.id;
    END""",
    """CREATE TRIGGER words_of_changed_turns AFTER UPDATE OF question, reply ON turns BEGIN
        INSERT INTO words (words, rowid, question, reply)
            SELECT 'delete', id, old.question, old.reply FROM places WHERE turn = old.id;
        INSERT INTO words (rowid, question, reply) SELECT id, new.question, new.reply FROM places WHERE turn = new.id;
    END""",
    """CREATE TRIGGER words_of_deleted_turns BEFORE DELETE ON turns BEGIN
        INSERT INTO words (words, rowid, question, reply)
            SELECT 'delete', id, old.question, old.reply FROM places WHERE turn = old.id;
        DELETE FROM places WHERE turn = old.id;
    END""",
)
POSTGRESQL = (
    # an entry of the index holds at most a megabyte
    """CREATE INDEX turns_by_words ON turns
        USING gin (to_tsvector('simple'::regconfig, left(question || ' ' || reply, 100000)))""",
)


def upgrade() -> None:
    """Add columns and the index over every turn that is there; nothing that is there changes."""
    op.add_column("sessions", sa.Column("title", sa.Text, nullable=False, server_default=""))
    op.add_column("sessions", sa.Column("archived", sa.Boolean, nullable=False, server_default=sa.false()))
    op.add_column("handoffs", sa.Column("author", sa.Text, nullable=False, server_default=""))
    op.add_column("handoffs", sa.Column("by", sa.Text, nullable=False, server_default="", quote=True))
    for statement in SQLITE if op.get_bind().dialect.name == "sqlite" else POSTGRESQL:
        op.get_bind().exec_driver_sql(statement)
