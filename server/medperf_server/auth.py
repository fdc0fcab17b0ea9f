"""Bearer tokens: making, storing (hashed) and checking them (RFC 6750)."""

import hashlib
import secrets
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from flask import Flask, abort, g, request
from sqlalchemy import Engine, bindparam, create_engine, func, or_, select
from sqlalchemy.exc import OperationalError

from medperf_server.models import ADMIN, READ, SCOPES, SUBMIT, ChangeCounter, Token, User, db

READING = ("GET", "HEAD", "OPTIONS")
OPEN_PATHS = ("/api/v0/version", "/api/v0/openapi.json", "/api/v0/docs")


@dataclass(frozen=True)
class Caller:
    """Who sent the request: all that the rules need to know."""

    id: int
    # Whether they are an admin, and their token lets them be one.
    is_admin: bool
    # One of SCOPES.
    scope: str = ADMIN
    token_id: int = 0

    def may(self, scope: str) -> bool:
        """Whether the token is good for this scope."""
        return SCOPES.index(self.scope) >= SCOPES.index(scope)


# With the caller comes where the change log stands: `answers` needs it with every request.
CALLER = (
    select(
        User.id,
        User.is_admin,
        Token.scope,
        Token.id,
        select(ChangeCounter.value).scalar_subquery(),
    )
    .join(Token, Token.user_id == User.id)
    .where(
        Token.digest == bindparam("digest"),
        Token.is_session == bindparam("is_session"),
        User.is_active,
        Token.revoked_at.is_(None),
        or_(Token.expires_at.is_(None), Token.expires_at > func.current_timestamp()),
    )
)

# A caller, and the change log's cursor, by a token; with True, by a browser session's.
ReadCaller = Callable[[str, bool], tuple[Caller, int] | None]


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
    user_id: int, name: str = "", expires_at: datetime | None = None, scope: str = ADMIN
) -> tuple[int, str]:
    """Add a new token to the session; its ID, and its text, which is never shown again."""
    text = "mpf_" + secrets.token_urlsafe(32)
    token = Token(user_id=user_id, name=name, digest=digest_of(text))
    token.expires_at, token.scope = expires_at, scope
    db.session.add(token)
    db.session.flush()
    return token.id, text


def caller_reader(engine: Engine) -> ReadCaller:
    """The function that reads who owns a valid token; None if it is unknown, revoked or expired.

    It compiles the query once and runs it on a pooled connection of the driver. The query comes
    with every request, and SQLAlchemy's execution takes longer than all else a request needs.
    It opens no transaction of ours: the session's writers lock as they begin, and begin later.
    """
    lending = _for_single_queries(engine)
    compiled = CALLER.compile(engine)
    sql, names = str(compiled), compiled.positiontup

    def read(token: str, is_session: bool = False) -> tuple[Caller, int] | None:
        values = {"digest": digest_of(token), "is_session": is_session}
        row = _first_row(lending, sql, [values[name] for name in names] if names else values)
        if row is None:
            return None
        uid, is_admin, scope, token_id, cursor = row
        return Caller(uid, bool(is_admin) and scope == ADMIN, scope, token_id), cursor

    return read


def _for_single_queries(engine: Engine) -> Engine:
    """An engine on the same database whose queries cost one round trip each.

    To begin, to roll back and to ask whether the server is there would take three more.
    """
    if engine.dialect.name == "sqlite":
        return engine
    return create_engine(engine.url, isolation_level="AUTOCOMMIT", pool_reset_on_return=None)


def _first_row(engine: Engine, sql: str, values: Any) -> Any:
    """The first row that a query finds, on a connection of the driver."""
    for last in (False, True):
        try:
            with closing(engine.raw_connection()) as connection:
                cursor = connection.cursor()
                cursor.execute(sql, values)
                return cursor.fetchone()
        except engine.dialect.loaded_dbapi.Error as error:
            # Connections that the pool keeps do not outlive a restart of the database server.
            engine.dispose()
            if last:
                raise OperationalError(sql, None, error) from error
    return None


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
        if scheme.lower() == "bearer" and (found := read_caller(token.strip(), False)):
            g.caller, g.cursor = found
            needed = READ if request.method in READING else SUBMIT
            if not g.caller.may(needed):
                abort(403, f"This token's scope is {g.caller.scope}: it cannot change anything")
            return
        abort(401, "A valid token is needed: Authorization: Bearer <token>")
