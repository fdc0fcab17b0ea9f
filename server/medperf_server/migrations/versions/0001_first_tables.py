"""The first tables

Revision ID: 0001
Revises: nothing
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade():
    counter = op.create_table(
        "change_counter",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_change_counter")),
    )
    op.bulk_insert(counter, [{"id": 1, "value": 0}])
    op.create_table(
        "changes",
        sa.Column("cursor", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("entity_type", sa.String(length=32), nullable=False),
        sa.Column("entity_id", sa.Integer(), nullable=False),
        sa.Column("action", sa.String(length=16), nullable=False),
        sa.Column("audience", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("cursor", name=op.f("pk_changes")),
    )
    op.create_table(
        "users",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("username", sa.String(length=150), nullable=False),
        sa.Column("email", sa.String(length=254), nullable=False),
        sa.Column("first_name", sa.String(length=150), nullable=False),
        sa.Column("last_name", sa.String(length=150), nullable=False),
        sa.Column("is_admin", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_users")),
        sa.UniqueConstraint("email", name=op.f("uq_users_email")),
        sa.UniqueConstraint("username", name=op.f("uq_users_username")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("key", sa.String(length=128), nullable=False),
        sa.Column("request_digest", sa.String(length=64), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_idempotency_keys_user_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("user_id", "key", name=op.f("pk_idempotency_keys")),
    )
    op.create_index(
        op.f("ix_idempotency_keys_created_at"), "idempotency_keys", ["created_at"], unique=False
    )

    op.create_table(
        "mlcubes",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("git_mlcube_url", sa.Text(), nullable=False),
        sa.Column("mlcube_hash", sa.String(length=128), nullable=False),
        sa.Column("git_parameters_url", sa.Text(), nullable=False),
        sa.Column("parameters_hash", sa.String(length=128), nullable=False),
        sa.Column("image_tarball_url", sa.Text(), nullable=False),
        sa.Column("image_tarball_hash", sa.String(length=128), nullable=False),
        sa.Column("image_hash", sa.String(length=128), nullable=False),
        sa.Column("additional_files_tarball_url", sa.Text(), nullable=False),
        sa.Column("additional_files_tarball_hash", sa.String(length=128), nullable=False),
        sa.Column("owner", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("is_valid", sa.Boolean(), nullable=False),
        sa.Column("metadata", sa.JSON(), nullable=False),
        sa.Column("user_metadata", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("modified_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["owner"], ["users.id"], name=op.f("fk_mlcubes_owner")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_mlcubes")),
        sa.UniqueConstraint(
            "image_tarball_hash",
            "image_hash",
            "additional_files_tarball_hash",
            "mlcube_hash",
            "parameters_hash",
            name="uq_mlcubes_content",
        ),
        sa.UniqueConstraint("name", name=op.f("uq_mlcubes_name")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_mlcubes_owner"), "mlcubes", ["owner"], unique=False)

    op.create_table(
        "tokens",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_tokens_user_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tokens")),
        sa.UniqueConstraint("digest", name=op.f("uq_tokens_digest")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_tokens_user_id"), "tokens", ["user_id"], unique=False)

    op.create_table(
        "benchmarks",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("docs_url", sa.Text(), nullable=False),
        sa.Column("owner", sa.Integer(), nullable=False),
        sa.Column("demo_dataset_tarball_url", sa.Text(), nullable=False),
        sa.Column("demo_dataset_tarball_hash", sa.String(length=128), nullable=False),
        sa.Column("demo_dataset_generated_uid", sa.String(length=128), nullable=False),
        sa.Column("data_preparation_mlcube", sa.Integer(), nullable=False),
        sa.Column("reference_model_mlcube", sa.Integer(), nullable=False),
        sa.Column("data_evaluator_mlcube", sa.Integer(), nullable=False),
        sa.Column("metadata", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("is_valid", sa.Boolean(), nullable=False),
        sa.Column("is_active", sa.Boolean(), nullable=False),
        sa.Column("approval_status", sa.String(length=16), nullable=False),
        sa.Column("user_metadata", sa.JSON(), nullable=False),
        sa.Column("approved_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("modified_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["data_evaluator_mlcube"],
            ["mlcubes.id"],
            name=op.f("fk_benchmarks_data_evaluator_mlcube"),
        ),
        sa.ForeignKeyConstraint(
            ["data_preparation_mlcube"],
            ["mlcubes.id"],
            name=op.f("fk_benchmarks_data_preparation_mlcube"),
        ),
        sa.ForeignKeyConstraint(["owner"], ["users.id"], name=op.f("fk_benchmarks_owner")),
        sa.ForeignKeyConstraint(
            ["reference_model_mlcube"],
            ["mlcubes.id"],
            name=op.f("fk_benchmarks_reference_model_mlcube"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_benchmarks")),
        sa.UniqueConstraint("name", name=op.f("uq_benchmarks_name")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_benchmarks_owner"), "benchmarks", ["owner"], unique=False)
    op.create_index(
        "uq_benchmarks_one_pending",
        "benchmarks",
        ["owner"],
        unique=True,
        sqlite_where=sa.text("approval_status = 'PENDING'"),
        postgresql_where=sa.text("approval_status = 'PENDING'"),
    )

    op.create_table(
        "benchmark_models",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("model_mlcube", sa.Integer(), nullable=False),
        sa.Column("benchmark", sa.Integer(), nullable=False),
        sa.Column("initiated_by", sa.Integer(), nullable=False),
        sa.Column("metadata", sa.JSON(), nullable=False),
        sa.Column("approval_status", sa.String(length=16), nullable=False),
        sa.Column("approved_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("modified_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["benchmark"],
            ["benchmarks.id"],
            name=op.f("fk_benchmark_models_benchmark"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["initiated_by"], ["users.id"], name=op.f("fk_benchmark_models_initiated_by")
        ),
        sa.ForeignKeyConstraint(
            ["model_mlcube"],
            ["mlcubes.id"],
            name=op.f("fk_benchmark_models_model_mlcube"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_benchmark_models")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        op.f("ix_benchmark_models_benchmark"), "benchmark_models", ["benchmark"], unique=False
    )
    op.create_index(
        "ix_benchmark_models_pair", "benchmark_models", ["model_mlcube", "benchmark"], unique=False
    )


def downgrade():
    for table in (
        "benchmark_models",
        "benchmarks",
        "tokens",
        "mlcubes",
        "idempotency_keys",
        "users",
        "changes",
        "change_counter",
    ):
        op.drop_table(table)
