"""The tables of benchmarks, and of who may see those that are private."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, String, Text, false, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from medperf_server.base import DEVELOPMENT, NEVER_TWICE, PENDING, Timestamps, db, utc_now
from medperf_server.kinds.user.table import User

# Its containers.
ROLES = ("data_preparation_mlcube", "reference_model_mlcube", "data_evaluator_mlcube")

# To whom its ranking is told once that is published, and how sites are told of in it.
OWNERS, PARTICIPANTS, MEMBERS = "owners", "participants", "members"
NAMES, LETTERS = "names", "letters"


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
    ranking_audience: Mapped[str] = mapped_column(String(16), default=OWNERS, server_default=OWNERS)
    ranking_sites: Mapped[str] = mapped_column(String(16), default=LETTERS, server_default=LETTERS)
    ranking_published: Mapped[bool] = mapped_column(default=False, server_default=false())


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
