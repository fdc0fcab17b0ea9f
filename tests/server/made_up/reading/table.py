"""The table of readings."""

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from medperf_server.base import Timestamps, db


class Reading(Timestamps, db.Model):
    """What a gadget showed in a benchmark."""

    __tablename__ = "readings"
    id: Mapped[int] = mapped_column(primary_key=True)
    gadget: Mapped[int] = mapped_column(ForeignKey("gadgets.id"))
    benchmark: Mapped[int] = mapped_column(ForeignKey("benchmarks.id", ondelete="CASCADE"))
    value: Mapped[int]
