"""Data owners: datasets, their associations with benchmarks, results; keys of progress."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def _text(name, length):
    return sa.Column(name, sa.String(length=length), nullable=False)


def _json(*names):
    return [sa.Column(name, sa.JSON(), nullable=False) for name in names]


def _truth(*names):
    return [sa.Column(name, sa.Boolean(), nullable=False) for name in names]


def _number(*names):
    return [sa.Column(name, sa.Integer(), nullable=False) for name in names]


def _times(*names, nullable=False):
    return [sa.Column(name, sa.DateTime(timezone=True), nullable=nullable) for name in names]


def _refers(table, column, to, **options):
    key = op.f(f"fk_{table}_{column}")
    return sa.ForeignKeyConstraint([column], [f"{to}.id"], name=key, **options)


def upgrade():
    _datasets()
    _associations()
    _results()
    quiet = sa.Column("quiet", sa.String(length=64), server_default="", nullable=False)
    op.add_column("idempotency_keys", quiet)
    some = sa.text("quiet <> ''")
    op.create_index(
        "ix_idempotency_keys_quiet",
        "idempotency_keys",
        ["user_id", "quiet"],
        sqlite_where=some,
        postgresql_where=some,
    )


def downgrade():
    op.drop_index("ix_idempotency_keys_quiet", "idempotency_keys")
    op.drop_column("idempotency_keys", "quiet")
    for table in ("results", "benchmark_datasets", "datasets"):
        op.drop_table(table)


def _datasets():
    op.create_table(
        "datasets",
        *_number("id"),
        _text("name", 128),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("location", sa.Text(), nullable=False),
        *_number("owner"),
        _text("input_data_hash", 128),
        _text("generated_uid", 128),
        *_number("split_seed", "data_preparation_mlcube"),
        *_truth("is_valid", "submitted_as_prepared"),
        _text("state", 16),
        *_json("generated_metadata", "user_metadata", "report"),
        *_times("created_at", "modified_at"),
        _refers("datasets", "data_preparation_mlcube", "mlcubes"),
        _refers("datasets", "owner", "users"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_datasets")),
        sqlite_autoincrement=True,
    )
    for column in ("owner", "data_preparation_mlcube"):
        op.create_index(op.f(f"ix_datasets_{column}"), "datasets", [column])
    operation = sa.text("state = 'OPERATION'")
    op.create_index(
        "uq_datasets_one_in_operation",
        "datasets",
        ["generated_uid"],
        unique=True,
        sqlite_where=operation,
        postgresql_where=operation,
    )


def _associations():
    table = "benchmark_datasets"
    op.create_table(
        table,
        *_number("id", "dataset", "benchmark", "initiated_by"),
        *_json("metadata"),
        _text("approval_status", 16),
        *_times("approved_at", nullable=True),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        *_times("created_at", "modified_at"),
        _refers(table, "benchmark", "benchmarks", ondelete="CASCADE"),
        _refers(table, "dataset", "datasets"),
        _refers(table, "initiated_by", "users"),
        sa.PrimaryKeyConstraint("id", name=op.f(f"pk_{table}")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_benchmark_datasets_benchmark"), table, ["benchmark"])
    op.create_index("ix_benchmark_datasets_pair", table, ["dataset", "benchmark"])


def _results():
    op.create_table(
        "results",
        *_number("id"),
        _text("name", 128),
        *_number("owner", "benchmark", "model", "dataset"),
        *_json("results", "metadata", "user_metadata"),
        _text("approval_status", 16),
        *_times("approved_at", nullable=True),
        *_truth("is_valid"),
        *_times("created_at", "modified_at"),
        _refers("results", "benchmark", "benchmarks", ondelete="CASCADE"),
        _refers("results", "dataset", "datasets"),
        _refers("results", "model", "mlcubes"),
        _refers("results", "owner", "users"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_results")),
        sqlite_autoincrement=True,
    )
    for column in ("owner", "benchmark", "model", "dataset"):
        op.create_index(op.f(f"ix_results_{column}"), "results", [column])
