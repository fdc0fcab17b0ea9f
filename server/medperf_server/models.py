"""The tables of the registry itself; those of its kinds are in their folders (see `kinds`)."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, Integer, String, Text, false, text
from sqlalchemy.orm import Mapped, mapped_column

from medperf_server.base import NEVER_TWICE, Timestamps, db, utc_now

# Known by these names to who fills a registry, such as scripts.
from medperf_server.kinds.benchmark.table import Benchmark as Benchmark
from medperf_server.kinds.container.table import Container as Container
from medperf_server.kinds.user.table import User as User

# What a token may be used for; each includes those before it.
SCOPES = READ, SUBMIT, ADMIN = "read", "submit", "admin"


class Token(db.Model):  # type: ignore[name-defined]
    """A bearer token, or a browser's session: only its SHA-256 is stored."""

    __tablename__ = "tokens"
    __table_args__ = NEVER_TWICE
    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    name: Mapped[str] = mapped_column(String(128), default="")
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    # One of SCOPES. It narrows what its owner may do, and never widens it.
    scope: Mapped[str] = mapped_column(String(16), default=ADMIN, server_default=ADMIN)
    # A browser's session is no bearer token, and the other way round.
    is_session: Mapped[bool] = mapped_column(default=False, server_default=false())
    # The token that a session was opened with, or that was good for making this one: with it goes
    # what came of it.
    parent_id: Mapped[int | None] = mapped_column(index=True)


class Invitation(db.Model):  # type: ignore[name-defined]
    """A link that admits whoever opens it, once: only the SHA-256 of its secret is stored."""

    __tablename__ = "invitations"
    __table_args__ = NEVER_TWICE
    id: Mapped[int] = mapped_column(primary_key=True)
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    email: Mapped[str] = mapped_column(String(254))
    is_admin: Mapped[bool] = mapped_column(default=False)
    # A private benchmark that they may see from then on.
    benchmark: Mapped[int | None] = mapped_column(ForeignKey("benchmarks.id", ondelete="CASCADE"))
    # Null: from the command line.
    created_by: Mapped[int | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    expires_at: Mapped[datetime]
    accepted_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class Asset(db.Model):  # type: ignore[name-defined]
    """A file that the registry stores, by its content."""

    __tablename__ = "assets"
    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(default=utc_now)


class AssetHolder(db.Model):  # type: ignore[name-defined]
    """A member who uploaded an asset: it counts against their quota."""

    __tablename__ = "asset_holders"
    sha256: Mapped[str] = mapped_column(
        ForeignKey("assets.sha256", ondelete="CASCADE"), primary_key=True
    )
    user_id: Mapped[int] = mapped_column(
        ForeignKey("users.id", ondelete="CASCADE"), primary_key=True, index=True
    )
    created_at: Mapped[datetime] = mapped_column(default=utc_now)


class Upload(Timestamps, db.Model):  # type: ignore[name-defined]
    """A file on its way in: how much of it is here (tus 1.0.0, https://tus.io)."""

    __tablename__ = "uploads"
    # Random, so that it tells nothing of others.
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    sha256: Mapped[str] = mapped_column(String(64))
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    offset_bytes: Mapped[int] = mapped_column(BigInteger, default=0)
    # `Upload-Metadata`, as it came.
    metadata_header: Mapped[str] = mapped_column(Text)


class UploadPiece(db.Model):  # type: ignore[name-defined]
    """Bytes of an upload from an offset on, by the name that the store has them under."""

    __tablename__ = "upload_pieces"
    upload_id: Mapped[str] = mapped_column(
        ForeignKey("uploads.id", ondelete="CASCADE"), primary_key=True
    )
    offset_bytes: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(String(64))


class IdempotencyKey(db.Model):  # type: ignore[name-defined]
    """A request's claim on its key, by caller; once it has succeeded, the answer to repeat."""

    __tablename__ = "idempotency_keys"
    __table_args__ = (
        Index(
            "ix_idempotency_keys_quiet",
            "user_id",
            "quiet",
            sqlite_where=text("quiet <> ''"),
            postgresql_where=text("quiet <> ''"),
        ),
    )
    user_id: Mapped[int] = mapped_column(
        ForeignKey("users.id", ondelete="CASCADE"), primary_key=True
    )
    key: Mapped[str] = mapped_column(String(128), primary_key=True)
    request_digest: Mapped[str] = mapped_column(String(64))
    status: Mapped[int] = mapped_column(default=0)
    body: Mapped[str] = mapped_column(Text, default="")
    # Those of the answer that a client of it needs.
    headers: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    # What the request changed that is no news, such as `dataset/3`: of it only the newest stays.
    quiet: Mapped[str] = mapped_column(String(64), default="", server_default="")
    # The number of the day, see `Calendar`.
    day: Mapped[int] = mapped_column(default=0, server_default="0")


class Calendar(db.Model):  # type: ignore[name-defined]
    """One row: how many days this registry has seen, and which was the last.

    What has to be kept for so many days is counted in these: a clock that jumps makes one day more
    at most.
    """

    __tablename__ = "calendar"
    id: Mapped[int] = mapped_column(primary_key=True)
    # The date's number in the proleptic Gregorian calendar, as `date.toordinal` gives it (UTC).
    date: Mapped[int]
    number: Mapped[int] = mapped_column(default=0)


class ChangeCounter(db.Model):  # type: ignore[name-defined]
    """One row: the last cursor handed out. Its lock orders cursors as commits are ordered.

    `digest` is that of the change log's last row, and `genesis`, which no other registry has, what
    stands before its first.
    """

    __tablename__ = "change_counter"
    id: Mapped[int] = mapped_column(primary_key=True)
    value: Mapped[int] = mapped_column(BigInteger, default=0)
    digest: Mapped[str] = mapped_column(String(64), default="", server_default="")
    genesis: Mapped[str] = mapped_column(String(64), default="", server_default="")


class Change(db.Model):  # type: ignore[name-defined]
    """A row of the append-only change log."""

    __tablename__ = "changes"
    cursor: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    entity_type: Mapped[str] = mapped_column(String(32))
    entity_id: Mapped[int]
    action: Mapped[str] = mapped_column(String(16))
    # Who may see it; null means every member. Kept here, for the entity may be gone later.
    audience: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    # SHA-256 of this row and the digest before it, see `changes.link`.
    digest: Mapped[str] = mapped_column(String(64), default="", server_default="")


class AuditEntry(db.Model):  # type: ignore[name-defined]
    """One change, and who made it. The database refuses to change or delete a row."""

    __tablename__ = "audit_log"
    __table_args__ = (Index("ix_audit_log_entity", "entity_type", "entity_id"), NEVER_TWICE)
    id: Mapped[int] = mapped_column(
        BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True
    )
    at: Mapped[datetime] = mapped_column(default=utc_now, index=True)
    # No foreign key: a member may go, and what they did stays. Null is the command line.
    user_id: Mapped[int | None]
    actor: Mapped[str] = mapped_column(String(254))
    # The IP address of who asked, and the ID of the request; empty for the command line.
    address: Mapped[str] = mapped_column(String(64), default="")
    request_id: Mapped[str] = mapped_column(String(128), default="")
    action: Mapped[str] = mapped_column(String(16))
    entity_type: Mapped[str] = mapped_column(String(32))
    entity_id: Mapped[str] = mapped_column(String(128))
    # The values of the columns that changed; SQL's null where there was nothing, or is no more.
    before: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    after: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
