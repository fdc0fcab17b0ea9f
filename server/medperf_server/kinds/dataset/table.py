"""The table of datasets."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ForeignKey, Index, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from medperf_server.base import DEVELOPMENT, NEVER_TWICE, Timestamps, db


class Dataset(Timestamps, db.Model):  # type: ignore[name-defined]
    """What a registry knows of a member's data: never the data, nor where they are."""

    __tablename__ = "datasets"
    __table_args__ = (
        # The same prepared data are in OPERATION once, however many say so at the same moment.
        Index(
            "uq_datasets_one_in_operation",
            "generated_uid",
            unique=True,
            sqlite_where=text("state = 'OPERATION'"),
            postgresql_where=text("state = 'OPERATION'"),
        ),
        NEVER_TWICE,
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(128))
    description: Mapped[str] = mapped_column(Text, default="")
    location: Mapped[str] = mapped_column(Text, default="")
    owner: Mapped[int] = mapped_column(ForeignKey("users.id"), index=True)
    # Digests of the raw data, and of those that were prepared.
    input_data_hash: Mapped[str] = mapped_column(String(128))
    generated_uid: Mapped[str] = mapped_column(String(128))
    split_seed: Mapped[int]
    data_preparation_mlcube: Mapped[int] = mapped_column(ForeignKey("mlcubes.id"), index=True)
    is_valid: Mapped[bool] = mapped_column(default=True)
    submitted_as_prepared: Mapped[bool]
    state: Mapped[str] = mapped_column(String(16), default=DEVELOPMENT)
    # The statistics of the prepared data.
    generated_metadata: Mapped[dict[str, Any]] = mapped_column(default=dict)
    user_metadata: Mapped[dict[str, Any]] = mapped_column(default=dict)
    # How far the preparation is.
    report: Mapped[dict[str, Any]] = mapped_column(default=dict)
