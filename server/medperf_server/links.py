"""Links to members' files that need no token, for clients that send none with a URL.

MedPerf's fetch a container's files so. Whoever sees an entity is shown the addresses of files that
are here with a key, which is good for that file alone. It is an HMAC with a secret of this
registry, so it cannot be guessed, and all of them end when the secret is renewed. The database has
addresses without a key.
"""

import hmac
import re
import secrets
from datetime import datetime
from typing import Any

from flask import g, has_request_context, request
from marshmallow import fields
from sqlalchemy import String, select
from sqlalchemy.orm import Mapped, mapped_column

from medperf_server.base import db, utc_now

# What the query of such a link calls it.
KEY = "key"
FILES = "/api/v0/assets/"
ADDRESS = re.compile(rf"https?://([^/]*){FILES}([0-9a-f]{{64}})(?:\?{KEY}=[0-9a-f]*)?")


class LinkSecret(db.Model):  # type: ignore[name-defined]
    """One row: what keys are made with."""

    __tablename__ = "link_secret"
    id: Mapped[int] = mapped_column(primary_key=True)
    secret: Mapped[str] = mapped_column(String(64))
    renewed_at: Mapped[datetime]


class FileUrl(fields.String):
    """Where a file is; of one that is here with its key, but not in the database."""

    def _serialize(self, value: Any, *arguments: Any, **options: Any) -> Any:
        return shared(super()._serialize(value, *arguments, **options) or "")

    def _deserialize(self, value: Any, *arguments: Any, **options: Any) -> Any:
        url: str = super()._deserialize(value, *arguments, **options)
        found = _here(url)
        return url.partition("?")[0] if found else url


def shared(url: str) -> str:
    """An address as it is shown: that of a file that is here, with its key."""
    found = _here(url)
    return f"{url.partition('?')[0]}?{KEY}={_key(found[2])}" if found else url


def keyed(text: str) -> str:
    """64 hexadecimal digits that are the same for a text each time, and that nobody can compute who
    does not know this registry's secret."""
    return _key(text)


def is_followed() -> bool:
    """Whether the present request follows such a link."""
    reads = request.endpoint == "assets.AssetView" and request.method in ("GET", "HEAD")
    return reads and KEY in request.args and "Authorization" not in request.headers


def is_good(sha256: str) -> bool:
    """Whether the present request has the key of a file."""
    return hmac.compare_digest(request.args[KEY].encode(), _key(sha256).encode())


def renew() -> None:
    """Make every key worthless that anybody has."""
    row = db.session.scalars(select(LinkSecret)).one()
    row.secret, row.renewed_at = secrets.token_hex(32), utc_now()


def _here(url: str) -> re.Match[str] | None:
    """What an address says, if it is that of a file of this registry, as who asks knows it."""
    if FILES not in url or not has_request_context():
        return None
    found = ADDRESS.fullmatch(url)
    return found if found and found[1] == request.host else None


def _key(text: str) -> str:
    if "link_secret" not in g:
        g.link_secret = db.session.scalars(select(LinkSecret.secret)).one()
    return hmac.digest(g.link_secret.encode(), text.encode(), "sha256").hex()
