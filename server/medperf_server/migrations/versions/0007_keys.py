"""Members' public keys, and by which of them a result is signed."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade():
    op.create_table(
        "keys",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("owner", sa.Integer(), nullable=False),
        sa.Column("keyid", sa.String(length=64), nullable=False),
        sa.Column("public_key", sa.Text(), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("modified_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["owner"], ["users.id"], name=op.f("fk_keys_owner")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_keys")),
        sa.UniqueConstraint("keyid", name=op.f("uq_keys_keyid")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_keys_owner"), "keys", ["owner"])
    signed = sa.Column("signed_by", sa.String(length=64), server_default="", nullable=False)
    op.add_column("results", signed)


def downgrade():
    op.drop_column("results", "signed_by")
    op.drop_table("keys")
