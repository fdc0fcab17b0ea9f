"""Rankings: who is told of a benchmark's, whether sites have names in it, whether it is published."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade():
    for column in (
        sa.Column("ranking_audience", sa.String(16), server_default="owners", nullable=False),
        sa.Column("ranking_sites", sa.String(16), server_default="letters", nullable=False),
        sa.Column("ranking_published", sa.Boolean(), server_default=sa.false(), nullable=False),
    ):
        op.add_column("benchmarks", column)


def downgrade():
    for name in ("ranking_published", "ranking_sites", "ranking_audience"):
        op.drop_column("benchmarks", name)
