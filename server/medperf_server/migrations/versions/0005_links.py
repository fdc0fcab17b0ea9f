"""Links to members' files that need no token: the secret that their keys are made with."""

import secrets
from datetime import datetime, timezone

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade():
    table = op.create_table(
        "link_secret",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("secret", sa.String(length=64), nullable=False),
        sa.Column("renewed_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_link_secret")),
    )
    now = datetime.now(timezone.utc)
    op.bulk_insert(table, [{"id": 1, "secret": secrets.token_hex(32), "renewed_at": now}])


def downgrade():
    op.drop_table("link_secret")
