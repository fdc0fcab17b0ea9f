"""The table of requests to take a model into a benchmark."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from medperf_server.base import NEVER_TWICE, PENDING, Timestamps, db


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
