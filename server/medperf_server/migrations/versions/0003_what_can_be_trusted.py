"""What can be trusted: a change log that is a chain, approvals of what was seen, members told apart."""

import hashlib
import json
import secrets
import unicodedata
from datetime import date, datetime, timezone

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

BATCH = 1000
KEYS = ("username_key", "email_key")


def _columns():
    """New columns by table; made anew each time, for a column belongs to one table."""
    return {
        "users": [
            sa.Column("username_key", sa.String(length=512), server_default="", nullable=False),
            sa.Column("email_key", sa.String(length=512), server_default="", nullable=False),
        ],
        "benchmarks": [
            sa.Column("approved_digest", sa.String(length=64), server_default="", nullable=False),
        ],
        "idempotency_keys": [
            sa.Column("headers", sa.JSON(), nullable=True),
            sa.Column("day", sa.Integer(), server_default="0", nullable=False),
        ],
        "change_counter": [
            sa.Column("digest", sa.String(length=64), server_default="", nullable=False),
            sa.Column("genesis", sa.String(length=64), server_default="", nullable=False),
        ],
        "changes": [
            sa.Column("digest", sa.String(length=64), server_default="", nullable=False),
        ],
    }


def upgrade():
    for table, columns in _columns().items():
        for column in columns:
            op.add_column(table, column)
    connection = op.get_bind()
    calendar = op.create_table(
        "calendar",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("date", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_calendar")),
    )
    today = datetime.now(timezone.utc).date()
    op.bulk_insert(calendar, [{"id": 1, "date": date.toordinal(today), "number": 0}])
    op.drop_index(op.f("ix_idempotency_keys_created_at"), "idempotency_keys")
    _fold(connection)
    _chain(connection)
    for name in KEYS:
        op.create_index(f"uq_users_{name}", "users", [name], unique=True)


def downgrade():
    for name in KEYS:
        op.drop_index(f"uq_users_{name}", "users")
    op.create_index(op.f("ix_idempotency_keys_created_at"), "idempotency_keys", ["created_at"])
    op.drop_table("calendar")
    for table, columns in _columns().items():
        for column in columns:
            op.drop_column(table, column.name)


def _fold(connection):
    """Addresses and usernames by what they are compared by.

    Members who had the same in two spellings stay, each with their own; whoever came first is
    found by it.
    """
    users = sa.table(
        "users", sa.column("id"), *map(sa.column, ("username", "email", "username_key", "email_key"))
    )
    taken = {"username": set(), "email": set()}
    rows = connection.execute(sa.select(users.c.id, users.c.username, users.c.email).order_by("id"))
    for uid, username, email in rows.all():
        keys = {}
        for field, text in (("username", username), ("email", email)):
            key = unicodedata.normalize("NFC", unicodedata.normalize("NFD", text).casefold())
            keys[f"{field}_key"] = f"{key}#{uid}" if key in taken[field] else key
            taken[field].add(key)
        connection.execute(users.update().where(users.c.id == uid).values(keys))


def _chain(connection):
    """A digest for every row of the change log, which covers the one before it."""
    names = ("cursor", "entity_type", "entity_id", "action", "audience", "digest")
    changes = sa.table(
        "changes",
        *map(sa.column, names),
        sa.column("created_at", sa.DateTime(timezone=True)),
    )
    genesis = digest = secrets.token_hex(32)
    cursor = 0
    while True:
        some = sa.select(changes).where(changes.c.cursor > cursor).order_by("cursor").limit(BATCH)
        rows = connection.execute(some).all()
        if not rows:
            break
        links = []
        for row in rows:
            cursor, digest = row.cursor, _link(digest, row)
            links.append({"row": cursor, "link": digest})
        statement = changes.update().where(changes.c.cursor == sa.bindparam("row"))
        connection.execute(statement.values(digest=sa.bindparam("link")), links)
    counter = sa.table("change_counter", sa.column("digest"), sa.column("genesis"))
    connection.execute(counter.update().values(digest=digest, genesis=genesis))


def _link(before, row):
    """As `changes.link` did when this was written."""
    at = row.created_at
    at = at.replace(tzinfo=timezone.utc) if at.tzinfo is None else at.astimezone(timezone.utc)
    moment = at.isoformat(timespec="microseconds")
    content = [before, row.cursor, row.entity_type, row.entity_id, row.action, row.audience, moment]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
