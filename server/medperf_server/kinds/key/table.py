"""The table of members' public keys."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from medperf_server.base import NEVER_TWICE, Timestamps, db


class Key(Timestamps, db.Model):  # type: ignore[name-defined]
    """A member's public key (Ed25519, RFC 8032). One that was revoked stays: results name it."""

    __tablename__ = "keys"
    __table_args__ = (NEVER_TWICE,)
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(128), default="")
    owner: Mapped[int] = mapped_column(ForeignKey("users.id"), index=True)
    # As securesystemslib makes it of the key.
    keyid: Mapped[str] = mapped_column(String(64), unique=True)
    # PEM (RFC 7468).
    public_key: Mapped[str] = mapped_column(Text)
    revoked_at: Mapped[datetime | None]
