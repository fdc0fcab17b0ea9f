"""Bearer tokens: making, storing (hashed) and checking them (RFC 6750)."""

import hashlib
import secrets
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime

from flask import Flask, abort, g, request
from sqlalchemy import Engine, bindparam, func, or_, select
from sqlalchemy.exc import OperationalError

from medperf_server.models import ChangeCounter, Token, User, db

OPEN_PATHS = ("/api/v0/version", "/api/v0/openapi.json", "/api/v0/docs")


@dataclass(frozen=True)
class Caller:
    """Who sent the request: all that the rules need to know."""

    id: int
    is_admin: bool


# With the caller comes where the change log stands: `answers` needs it with every request.
CALLER = (
    select(User.id, User.is_admin, select(ChangeCounter.value).scalar_subquery())
    .join(Token, Token.user_id == User.id)
    .where(
        Token.digest == bindparam("digest"),
        Token.revoked_at.is_(None),
        or_(Token.expires_at.is_(None), Token.expires_at > func.current_timestamp()),
    )
)

# A caller, and the change log's cursor, by a token's digest.
ReadCaller = Callable[[str], tuple[Caller, int] | None]


def digest_of(token: str) -> str:
    """SHA-256 of a token, hexadecimal. Tokens are 256 random bits, so no slow hash is needed."""
    return hashlib.sha256(token.encode()).hexdigest()


def add_user(email: str, is_admin: bool = False) -> User:
    """Add a new member to the session; the address is the username until an admin changes it."""
    user = User(username=email, email=email, is_admin=is_admin)
    db.session.add(user)
    db.session.flush()
    return user


def issue_token(
    user_id: int, name: str = "", expires_at: datetime | None = None
) -> tuple[int, str]:
    """Add a new token to the session; its ID, and its text, which is never shown again."""
    text = "mpf_" + secrets.token_urlsafe(32)
    token = Token(user_id=user_id, name=name, digest=digest_of(text), expires_at=expires_at)
    db.session.add(token)
    db.session.flush()
    return token.id, text


def caller_reader(engine: Engine) -> ReadCaller:
    """The function that reads who owns a valid token; None if it is unknown, revoked or expired.

    It compiles the query once and runs it on a pooled connection of the driver. The query comes
    with every request, and SQLAlchemy's execution takes longer than all else a request needs.
    It opens no transaction of ours: the session's writers lock as they begin, and begin later.
    """
    compiled = CALLER.compile(engine)
    sql, names = str(compiled), compiled.positiontup

    def read(digest: str) -> tuple[Caller, int] | None:
        try:
            with closing(engine.raw_connection()) as connection:
                cursor = connection.cursor()
                cursor.execute(sql, [digest] if names else {"digest": digest})
                row = cursor.fetchone()
        except engine.dialect.loaded_dbapi.Error as error:
            raise OperationalError(sql, None, error) from error
        return (Caller(row[0], bool(row[1])), row[2]) if row else None

    return read


def init_app(app: Flask) -> None:
    """Require a token on everything but the version and the documentation."""
    with app.app_context():
        read_caller = caller_reader(db.engine)

    @app.before_request
    def authenticate() -> None:
        path = request.path.rstrip("/")
        if not path.startswith("/api/") or path in OPEN_PATHS:
            return
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer" and (found := read_caller(digest_of(token.strip()))):
            g.caller, g.cursor = found
            return
        abort(401, "A valid token is needed: Authorization: Bearer <token>")
