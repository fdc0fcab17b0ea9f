"""What every table is made with: the declarative base, its types, and the words of states."""

from __future__ import annotations

import json
import unicodedata
from datetime import datetime, timezone
from typing import Any

from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import JSON, DateTime, MetaData
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, registry
from sqlalchemy.types import TypeDecorator

DEVELOPMENT, OPERATION = "DEVELOPMENT", "OPERATION"
PENDING, APPROVED, REJECTED = "PENDING", "APPROVED", "REJECTED"

# SQLite would give a deleted row's ID to the next one, and old references would lead there.
NEVER_TWICE = {"sqlite_autoincrement": True}


def utc_now() -> datetime:
    """The current time with its zone, UTC."""
    return datetime.now(timezone.utc)


def folded(text: str) -> str:
    """What an address or a username is compared by: upper and lower case are one (Unicode's
    canonical caseless matching, section 3.13 of its standard), on every engine alike."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", text).casefold())


class UtcDateTime(TypeDecorator[datetime]):
    """A time zone aware UTC datetime, on engines that store no zone too."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Any) -> datetime | None:
        """Store UTC, whatever zone it comes in."""
        return value.astimezone(timezone.utc) if value else None

    def process_result_value(self, value: datetime | None, dialect: Any) -> datetime | None:
        """Restore the zone that SQLite drops."""
        if value is None:
            return None
        return value.replace(tzinfo=timezone.utc) if value.tzinfo is None else value


def alike(one: Any, other: Any) -> bool:
    """Whether two values are the same JSON; for Python 1, 1.0 and true are equal."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


class Json(JSON):
    """A column of JSON, whose values are other ones where JSON says so."""

    cache_ok = True

    def compare_values(self, x: Any, y: Any) -> bool:
        """Whether nothing has to be written."""
        # What was never set is no JSON.
        return bool(x == y) and alike(x, y)


class Base(DeclarativeBase):
    """Base of every table; constraints have names, so that a migration can drop them."""

    # A registry of its own, for Flask-SQLAlchemy's derived base class keeps it under SQLAlchemy
    # 2.1, where it may not keep a `type_annotation_map`.
    registry = registry(
        type_annotation_map={datetime: UtcDateTime, dict[str, Any]: Json},
        metadata=MetaData(
            naming_convention={
                "ix": "ix_%(table_name)s_%(column_0_N_name)s",
                "uq": "uq_%(table_name)s_%(column_0_N_name)s",
                "fk": "fk_%(table_name)s_%(column_0_name)s",
                "pk": "pk_%(table_name)s",
            }
        ),
    )


db = SQLAlchemy(model_class=Base)


class Timestamps:
    """`created_at` and `modified_at`, as every entity on the wire has them."""

    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    modified_at: Mapped[datetime] = mapped_column(default=utc_now, onupdate=utc_now)
