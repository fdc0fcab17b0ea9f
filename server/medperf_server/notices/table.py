"""The tables of notices: what members are told, what they chose, the mails that carry it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, String, Text, text, true
from sqlalchemy.orm import Mapped, mapped_column

from medperf_server.base import NEVER_TWICE, db, utc_now

# What becomes of a letter: it waits, or it is settled. EMPTY had nothing to tell by the time it was
# sent, REFUSED was refused for good or for too long, UNSURE is of before a backup was put back.
STATES = WAITING, SENT, EMPTY, REFUSED, UNSURE = "waiting", "sent", "empty", "refused", "unsure"


class Letter(db.Model):  # type: ignore[name-defined]
    """A mail to a member. Its `message_id` stays the same however often it is tried."""

    __tablename__ = "letters"
    __table_args__ = (Index("ix_letters_state", "state", "next_at"), NEVER_TWICE)
    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    message_id: Mapped[str] = mapped_column(String(320), unique=True)
    state: Mapped[str] = mapped_column(String(16), default=WAITING)
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    # How often it was begun to be sent, and when that is to be tried next.
    attempts: Mapped[int] = mapped_column(default=0)
    next_at: Mapped[datetime] = mapped_column(default=utc_now)
    settled_at: Mapped[datetime | None]
    # What the mail server said last, or what else went wrong.
    trouble: Mapped[str] = mapped_column(Text, default="")


class Notice(db.Model):  # type: ignore[name-defined]
    """What a member is to be told: which event, and of what. It is put in words when told."""

    __tablename__ = "notices"
    __table_args__ = (
        Index(
            "ix_notices_waiting",
            "user_id",
            sqlite_where=text("is_waiting"),
            postgresql_where=text("is_waiting"),
        ),
        NEVER_TWICE,
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    event: Mapped[str] = mapped_column(String(32))
    # Empty and 0 where it is of the registry itself.
    entity_type: Mapped[str] = mapped_column(String(32), default="")
    entity_id: Mapped[int] = mapped_column(default=0)
    facts: Mapped[dict[str, Any]] = mapped_column(default=dict)
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    # Whether nobody has decided yet if a letter carries it, and which one does.
    is_waiting: Mapped[bool] = mapped_column(default=True, server_default=true())
    letter_id: Mapped[int | None] = mapped_column(
        ForeignKey("letters.id", ondelete="SET NULL"), index=True
    )


class NoticeChoice(db.Model):  # type: ignore[name-defined]
    """When a member wants to be mailed of an event, where it is not as usual."""

    __tablename__ = "notice_choices"
    user_id: Mapped[int] = mapped_column(
        ForeignKey("users.id", ondelete="CASCADE"), primary_key=True
    )
    event: Mapped[str] = mapped_column(String(32), primary_key=True)
    choice: Mapped[str] = mapped_column(String(16))


class NoticeFeed(db.Model):  # type: ignore[name-defined]
    """A member's feed: only the SHA-256 of the secret in its address is stored."""

    __tablename__ = "notice_feeds"
    user_id: Mapped[int] = mapped_column(
        ForeignKey("users.id", ondelete="CASCADE"), primary_key=True
    )
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
