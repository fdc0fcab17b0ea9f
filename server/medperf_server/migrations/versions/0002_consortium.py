"""A registry that a consortium runs: scopes, invitations, private benchmarks, files, audit."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
TABLES = (
    "audit_log",
    "upload_pieces",
    "uploads",
    "asset_holders",
    "assets",
    "benchmark_members",
    "invitations",
)
# Nobody rewrites what happened, the registry's own software included.
APPEND_ONLY = {
    "sqlite": [
        f"CREATE TRIGGER audit_log_no_{action} BEFORE {action} ON audit_log "
        "BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END"
        for action in ("update", "delete")
    ]
    + [
        # INSERT OR REPLACE deletes a row without asking the trigger above.
        "CREATE TRIGGER audit_log_no_replace BEFORE INSERT ON audit_log "
        "WHEN EXISTS (SELECT 1 FROM audit_log WHERE id = NEW.id) "
        "BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END"
    ],
    "postgresql": [
        "CREATE FUNCTION audit_log_append_only() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'the audit log is append-only'; END $$",
        "CREATE TRIGGER audit_log_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_log "
        "FOR EACH STATEMENT EXECUTE FUNCTION audit_log_append_only()",
    ],
}


def _columns():
    """New columns by table; made anew each time, for a column belongs to one table."""
    return {
        "users": [
            sa.Column("is_active", sa.Boolean(), server_default=sa.true(), nullable=False),
            sa.Column("quota_bytes", sa.BigInteger(), nullable=True),
        ],
        "tokens": [
            sa.Column("scope", sa.String(length=16), server_default="admin", nullable=False),
            sa.Column("is_session", sa.Boolean(), server_default=sa.false(), nullable=False),
            sa.Column("parent_id", sa.Integer(), nullable=True),
        ],
        "benchmarks": [
            sa.Column("is_private", sa.Boolean(), server_default=sa.false(), nullable=False),
        ],
        "benchmark_models": [
            sa.Column("reason", sa.Text(), server_default="", nullable=False),
        ],
    }


def upgrade():
    for table, columns in _columns().items():
        for column in columns:
            op.add_column(table, column)
    op.create_index(op.f("ix_tokens_parent_id"), "tokens", ["parent_id"])

    op.create_table(
        "invitations",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("email", sa.String(length=254), nullable=False),
        sa.Column("is_admin", sa.Boolean(), nullable=False),
        sa.Column("benchmark", sa.Integer(), nullable=True),
        sa.Column("created_by", sa.Integer(), nullable=True),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.Column("accepted_at", TIME, nullable=True),
        sa.Column("revoked_at", TIME, nullable=True),
        _foreign_key("invitations", "benchmark", "benchmarks.id"),
        _foreign_key("invitations", "created_by", "users.id", "SET NULL"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_invitations")),
        sa.UniqueConstraint("digest", name=op.f("uq_invitations_digest")),
        sqlite_autoincrement=True,
    )

    op.create_table(
        "benchmark_members",
        sa.Column("benchmark", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        _foreign_key("benchmark_members", "benchmark", "benchmarks.id"),
        _foreign_key("benchmark_members", "user_id", "users.id"),
        sa.PrimaryKeyConstraint("benchmark", "user_id", name=op.f("pk_benchmark_members")),
    )
    op.create_index(op.f("ix_benchmark_members_user_id"), "benchmark_members", ["user_id"])

    op.create_table(
        "assets",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_assets")),
    )

    op.create_table(
        "asset_holders",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        _foreign_key("asset_holders", "sha256", "assets.sha256"),
        _foreign_key("asset_holders", "user_id", "users.id"),
        sa.PrimaryKeyConstraint("sha256", "user_id", name=op.f("pk_asset_holders")),
    )
    op.create_index(op.f("ix_asset_holders_user_id"), "asset_holders", ["user_id"])

    op.create_table(
        "uploads",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("offset_bytes", sa.BigInteger(), nullable=False),
        sa.Column("metadata_header", sa.Text(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("modified_at", TIME, nullable=False),
        _foreign_key("uploads", "user_id", "users.id"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_uploads")),
    )
    op.create_index(op.f("ix_uploads_user_id"), "uploads", ["user_id"])

    op.create_table(
        "upload_pieces",
        sa.Column("upload_id", sa.String(length=64), nullable=False),
        sa.Column("offset_bytes", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        _foreign_key("upload_pieces", "upload_id", "uploads.id"),
        sa.PrimaryKeyConstraint("upload_id", "offset_bytes", name=op.f("pk_upload_pieces")),
    )

    op.create_table(
        "audit_log",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("at", TIME, nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=True),
        sa.Column("actor", sa.String(length=254), nullable=False),
        sa.Column("address", sa.String(length=64), nullable=False),
        sa.Column("request_id", sa.String(length=128), nullable=False),
        sa.Column("action", sa.String(length=16), nullable=False),
        sa.Column("entity_type", sa.String(length=32), nullable=False),
        sa.Column("entity_id", sa.String(length=128), nullable=False),
        sa.Column("before", sa.JSON(), nullable=True),
        sa.Column("after", sa.JSON(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_log")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_audit_log_at"), "audit_log", ["at"])
    op.create_index("ix_audit_log_entity", "audit_log", ["entity_type", "entity_id"])
    for statement in APPEND_ONLY[op.get_bind().dialect.name]:
        op.execute(statement)


def downgrade():
    for table in TABLES:
        op.drop_table(table)
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION audit_log_append_only()")
    op.drop_index(op.f("ix_tokens_parent_id"), "tokens")
    for table, columns in _columns().items():
        for column in columns:
            op.drop_column(table, column.name)


def _foreign_key(table, column, target, ondelete="CASCADE"):
    name = op.f(f"fk_{table}_{column}")
    return sa.ForeignKeyConstraint([column], [target], name=name, ondelete=ondelete)
