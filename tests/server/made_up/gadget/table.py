"""The tables of gadgets and their guests."""

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from medperf_server.base import OPERATION, Timestamps, db


class Gadget(Timestamps, db.Model):
    """A gadget."""

    __tablename__ = "gadgets"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(128), unique=True)
    owner: Mapped[int] = mapped_column(ForeignKey("users.id"))
    state: Mapped[str] = mapped_column(String(16), default=OPERATION)
    is_private: Mapped[bool] = mapped_column(default=False)
    manual_hash: Mapped[str] = mapped_column(String(128), default="")
    battery: Mapped[int] = mapped_column(default=100)


class GadgetGuest(db.Model):
    """A member who may see a private gadget."""

    __tablename__ = "gadget_guests"
    gadget: Mapped[int] = mapped_column(ForeignKey("gadgets.id"), primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), primary_key=True)
