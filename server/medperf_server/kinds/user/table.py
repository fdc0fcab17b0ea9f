"""The table of members."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, Index, String, true
from sqlalchemy.orm import Mapped, mapped_column, validates

from medperf_server.base import NEVER_TWICE, db, folded, utc_now


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
