"""The table of results."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from medperf_server.base import NEVER_TWICE, PENDING, Timestamps, db


class Result(Timestamps, db.Model):  # type: ignore[name-defined]
    """What a model achieved on a dataset, by a benchmark's metrics."""

    __tablename__ = "results"
    __table_args__ = (NEVER_TWICE,)
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(128), default="")
    owner: Mapped[int] = mapped_column(ForeignKey("users.id"), index=True)
    benchmark: Mapped[int] = mapped_column(
        ForeignKey("benchmarks.id", ondelete="CASCADE"), index=True
    )
    model: Mapped[int] = mapped_column(ForeignKey("mlcubes.id"), index=True)
    dataset: Mapped[int] = mapped_column(ForeignKey("datasets.id"), index=True)
    results: Mapped[dict[str, Any]]
    metadata_: Mapped[dict[str, Any]] = mapped_column("metadata", default=dict)
    user_metadata: Mapped[dict[str, Any]] = mapped_column(default=dict)
    approval_status: Mapped[str] = mapped_column(String(16), default=PENDING)
    approved_at: Mapped[datetime | None]
    is_valid: Mapped[bool] = mapped_column(default=True)
    # The `keyid` of its owner's key; empty if it came unsigned.
    signed_by: Mapped[str] = mapped_column(String(64), default="", server_default="")
