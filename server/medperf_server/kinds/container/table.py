"""The table of containers."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ForeignKey, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from medperf_server.base import DEVELOPMENT, NEVER_TWICE, Timestamps, db

# The hashes that pin it.
CONTENT = (
    "image_tarball_hash",
    "image_hash",
    "additional_files_tarball_hash",
    "mlcube_hash",
    "parameters_hash",
)


class Container(Timestamps, db.Model):  # type: ignore[name-defined]
    """A container's metadata; `mlcube` is MedPerf's older word for it."""

    __tablename__ = "mlcubes"
    __table_args__ = (
        UniqueConstraint(*CONTENT, name="uq_mlcubes_content"),
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
