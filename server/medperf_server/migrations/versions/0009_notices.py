"""Notices: what members are told, what they chose, their feeds, and the mails that carry them."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
WAITING = sa.text("is_waiting")


def upgrade():
    op.create_table(
        "letters",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("message_id", sa.String(length=320), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_at", TIME, nullable=False),
        sa.Column("settled_at", TIME, nullable=True),
        sa.Column("trouble", sa.Text(), nullable=False),
        _of_a_member("letters"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_letters")),
        sa.UniqueConstraint("message_id", name=op.f("uq_letters_message_id")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_letters_user_id"), "letters", ["user_id"])
    op.create_index("ix_letters_state", "letters", ["state", "next_at"])

    op.create_table(
        "notices",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("event", sa.String(length=32), nullable=False),
        sa.Column("entity_type", sa.String(length=32), nullable=False),
        sa.Column("entity_id", sa.Integer(), nullable=False),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("is_waiting", sa.Boolean(), server_default=sa.true(), nullable=False),
        sa.Column("letter_id", sa.Integer(), nullable=True),
        _of_a_member("notices"),
        sa.ForeignKeyConstraint(
            ["letter_id"], ["letters.id"], name=op.f("fk_notices_letter_id"), ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notices")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_notices_user_id"), "notices", ["user_id"])
    op.create_index(op.f("ix_notices_letter_id"), "notices", ["letter_id"])
    op.create_index(
        "ix_notices_waiting", "notices", ["user_id"], sqlite_where=WAITING, postgresql_where=WAITING
    )

    op.create_table(
        "notice_choices",
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("event", sa.String(length=32), nullable=False),
        sa.Column("choice", sa.String(length=16), nullable=False),
        _of_a_member("notice_choices"),
        sa.PrimaryKeyConstraint("user_id", "event", name=op.f("pk_notice_choices")),
    )

    op.create_table(
        "notice_feeds",
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        _of_a_member("notice_feeds"),
        sa.PrimaryKeyConstraint("user_id", name=op.f("pk_notice_feeds")),
        sa.UniqueConstraint("digest", name=op.f("uq_notice_feeds_digest")),
    )


def _of_a_member(table):
    name = op.f(f"fk_{table}_user_id")
    return sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=name, ondelete="CASCADE")


def downgrade():
    for table in ("notice_feeds", "notice_choices", "notices", "letters"):
        op.drop_table(table)
