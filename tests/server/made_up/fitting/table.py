"""The table of fittings."""

from datetime import datetime

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from medperf_server.base import PENDING, Timestamps, db


class Fitting(Timestamps, db.Model):
    """A request that a gadget fits a benchmark, and what was decided of it."""

    __tablename__ = "fittings"
    id: Mapped[int] = mapped_column(primary_key=True)
    gadget: Mapped[int] = mapped_column(ForeignKey("gadgets.id", ondelete="CASCADE"))
    benchmark: Mapped[int] = mapped_column(ForeignKey("benchmarks.id", ondelete="CASCADE"))
    initiated_by: Mapped[int] = mapped_column(ForeignKey("users.id"))
    approval_status: Mapped[str] = mapped_column(String(16), default=PENDING)
    approved_at: Mapped[datetime | None]
