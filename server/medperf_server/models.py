"""The registry's tables, as SQLAlchemy 2 typed models."""

from __future__ import annotations

import unicodedata
from datetime import datetime, timezone
from typing import Any

from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Text,
    UniqueConstraint,
    false,
    text,
    true,
)
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    mapped_column,
    registry,
    relationship,
    validates,
)
from sqlalchemy.types import TypeDecorator

DEVELOPMENT, OPERATION = "DEVELOPMENT", "OPERATION"
PENDING, APPROVED, REJECTED = "PENDING", "APPROVED", "REJECTED"
# What a token may be used for; each includes those before it.
SCOPES = READ, SUBMIT, ADMIN = "read", "submit", "admin"

# SQLite would give a deleted row's ID to the next one, and old references would lead there.
NEVER_TWICE = {"sqlite_autoincrement": True}


def utc_now() -> datetime:
    """The current time with its zone, UTC."""
    return datetime.now(timezone.utc)


def folded(text: str) -> str:
    """What an address or a username is compared by: upper and lower case are one (Unicode's
    canonical caseless matching, section 3.13 of its standard), on every engine alike."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", text).casefold())


class UtcDateTime(TypeDecorator[datetime]):
    """A time zone aware UTC datetime, on engines that store no zone too."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Any) -> datetime | None:
        """Store UTC, whatever zone it comes in."""
        return value.astimezone(timezone.utc) if value else None

    def process_result_value(self, value: datetime | None, dialect: Any) -> datetime | None:
        """Restore the zone that SQLite drops."""
        if value is None:
            return None
        return value.replace(tzinfo=timezone.utc) if value.tzinfo is None else value


class Base(DeclarativeBase):
    """Base of every table; constraints have names, so that a migration can drop them."""

    # A registry of its own, for Flask-SQLAlchemy's derived base class keeps it under SQLAlchemy
    # 2.1, where it may not keep a `type_annotation_map`.
    registry = registry(
        type_annotation_map={datetime: UtcDateTime, dict[str, Any]: JSON},
        metadata=MetaData(
            naming_convention={
                "ix": "ix_%(table_name)s_%(column_0_N_name)s",
                "uq": "uq_%(table_name)s_%(column_0_N_name)s",
                "fk": "fk_%(table_name)s_%(column_0_name)s",
                "pk": "pk_%(table_name)s",
            }
        ),
    )


db = SQLAlchemy(model_class=Base)


class Timestamps:
    """`created_at` and `modified_at`, as every entity on the wire has them."""

    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    modified_at: Mapped[datetime] = mapped_column(default=utc_now, onupdate=utc_now)


class User(db.Model):  # type: ignore[name-defined]
    """A member of the consortium."""

    __tablename__ = "users"
    __table_args__ = (
        # Folded: no two members have the same but for case, however many join at once.
        Index("uq_users_username_key", "username_key", unique=True),
        Index("uq_users_email_key", "email_key", unique=True),
        NEVER_TWICE,
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    username: Mapped[str] = mapped_column(String(150), unique=True)
    email: Mapped[str] = mapped_column(String(254), unique=True)
    username_key: Mapped[str] = mapped_column(String(512), default="", server_default="")
    email_key: Mapped[str] = mapped_column(String(512), default="", server_default="")
    first_name: Mapped[str] = mapped_column(String(150), default="")
    last_name: Mapped[str] = mapped_column(String(150), default="")
    is_admin: Mapped[bool] = mapped_column(default=False)
    # Nobody who is not active can sign in; what they submitted stays.
    is_active: Mapped[bool] = mapped_column(default=True, server_default=true())
    # How many bytes of files they may store here; null is the registry's default.
    quota_bytes: Mapped[int | None] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(default=utc_now)

    @validates("username", "email")
    def _fold(self, field: str, value: str) -> str:
        setattr(self, f"{field}_key", folded(value))
        return value


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


class Container(Timestamps, db.Model):  # type: ignore[name-defined]
    """A container's metadata; `mlcube` is MedPerf's older word for it."""

    __tablename__ = "mlcubes"
    __table_args__ = (
        UniqueConstraint(
            "image_tarball_hash",
            "image_hash",
            "additional_files_tarball_hash",
            "mlcube_hash",
            "parameters_hash",
            name="uq_mlcubes_content",
        ),
        NEVER_TWICE,
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(128), unique=True)
    git_mlcube_url: Mapped[str] = mapped_column(Text)
    mlcube_hash: Mapped[str] = mapped_column(String(128))
    git_parameters_url: Mapped[str] = mapped_column(Text, default="")
    parameters_hash: Mapped[str] = mapped_column(String(128), default="")
    image_tarball_url: Mapped[str] = mapped_column(Text, default="")
    image_tarball_hash: Mapped[str] = mapped_column(String(128), default="")
    image_hash: Mapped[str] = mapped_column(String(128), default="")
    additional_files_tarball_url: Mapped[str] = mapped_column(Text, default="")
    additional_files_tarball_hash: Mapped[str] = mapped_column(String(128), default="")
    owner: Mapped[int] = mapped_column(ForeignKey("users.id"), index=True)
    state: Mapped[str] = mapped_column(String(16), default=DEVELOPMENT)
    is_valid: Mapped[bool] = mapped_column(default=True)
    # `metadata` is taken by SQLAlchemy's declarative base; the schema maps the wire name.
    metadata_: Mapped[dict[str, Any]] = mapped_column("metadata", default=dict)
    user_metadata: Mapped[dict[str, Any]] = mapped_column(default=dict)


class Benchmark(Timestamps, db.Model):  # type: ignore[name-defined]
    """A benchmark: three containers, demo data and the committee that owns it."""

    __tablename__ = "benchmarks"
    __table_args__ = (
        Index(
            "uq_benchmarks_one_pending",
            "owner",
            unique=True,
            sqlite_where=text("approval_status = 'PENDING'"),
            postgresql_where=text("approval_status = 'PENDING'"),
        ),
        NEVER_TWICE,
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(128), unique=True)
    description: Mapped[str] = mapped_column(Text, default="")
    docs_url: Mapped[str] = mapped_column(Text, default="")
    owner: Mapped[int] = mapped_column(ForeignKey("users.id"), index=True)
    demo_dataset_tarball_url: Mapped[str] = mapped_column(Text, default="")
    demo_dataset_tarball_hash: Mapped[str] = mapped_column(String(128), default="")
    demo_dataset_generated_uid: Mapped[str] = mapped_column(String(128), default="")
    data_preparation_mlcube: Mapped[int] = mapped_column(ForeignKey("mlcubes.id"))
    reference_model_mlcube: Mapped[int] = mapped_column(ForeignKey("mlcubes.id"))
    data_evaluator_mlcube: Mapped[int] = mapped_column(ForeignKey("mlcubes.id"))
    metadata_: Mapped[dict[str, Any]] = mapped_column("metadata", default=dict)
    state: Mapped[str] = mapped_column(String(16), default=DEVELOPMENT)
    is_valid: Mapped[bool] = mapped_column(default=True)
    is_active: Mapped[bool] = mapped_column(default=True)
    # Shown to its owner, to admins and to whom `BenchmarkMember` names.
    is_private: Mapped[bool] = mapped_column(default=False, server_default=false())
    approval_status: Mapped[str] = mapped_column(String(16), default=PENDING)
    user_metadata: Mapped[dict[str, Any]] = mapped_column(default=dict)
    approved_at: Mapped[datetime | None]
    # The SHA-256 of what was approved, its containers included; empty until then.
    approved_digest: Mapped[str] = mapped_column(String(64), default="", server_default="")


class BenchmarkMember(db.Model):  # type: ignore[name-defined]
    """A member who may see a private benchmark."""

    __tablename__ = "benchmark_members"
    benchmark: Mapped[int] = mapped_column(
        ForeignKey("benchmarks.id", ondelete="CASCADE"), primary_key=True
    )
    user_id: Mapped[int] = mapped_column(
        ForeignKey("users.id", ondelete="CASCADE"), primary_key=True, index=True
    )
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    member: Mapped[User] = relationship(viewonly=True, lazy="joined")


class Association(Timestamps, db.Model):  # type: ignore[name-defined]
    """A request to take a model into a benchmark, and what was decided of it."""

    __tablename__ = "benchmark_models"
    __table_args__ = (
        Index("ix_benchmark_models_pair", "model_mlcube", "benchmark"),
        NEVER_TWICE,
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    model_mlcube: Mapped[int] = mapped_column(ForeignKey("mlcubes.id", ondelete="CASCADE"))
    benchmark: Mapped[int] = mapped_column(
        ForeignKey("benchmarks.id", ondelete="CASCADE"), index=True
    )
    initiated_by: Mapped[int] = mapped_column(ForeignKey("users.id"))
    metadata_: Mapped[dict[str, Any]] = mapped_column("metadata", default=dict)
    approval_status: Mapped[str] = mapped_column(String(16), default=PENDING)
    approved_at: Mapped[datetime | None]
    priority: Mapped[int] = mapped_column(default=0)
    # Why it was decided so, in the words of who decided.
    reason: Mapped[str] = mapped_column(Text, default="", server_default="")


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
