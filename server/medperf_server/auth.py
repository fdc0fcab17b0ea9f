"""Bearer tokens: making, storing (hashed) and checking them (RFC 6750)."""

import secrets
from datetime import datetime

from flask import Flask, abort, g, request
from sqlalchemy import select

from medperf_server.callers import caller_reader, digest_of
from medperf_server.limits import count_failure, count_request
from medperf_server.models import ADMIN, READ, SUBMIT, Token, User, db, folded, utc_now

READING = ("GET", "HEAD", "OPTIONS")
OPEN_PATHS = ("/api/v0/version", "/api/v0/openapi.json", "/api/v0/docs")


def add_user(email: str, is_admin: bool = False) -> User:
    """Add a new member to the session; the address is the username until an admin changes it."""
    user = User(username=email, email=email, is_admin=is_admin)
    db.session.add(user)
    db.session.flush()
    return user


def find_user(email: str) -> User | None:
    """The member with this address, in upper or lower case."""
    return db.session.scalar(select(User).filter_by(email_key=folded(email)))


def issue_token(
    user_id: int,
    name: str = "",
    expires_at: datetime | None = None,
    scope: str = ADMIN,
    parent_id: int | None = None,
) -> tuple[int, str]:
    """Add a new token to the session; its ID, and its text, which is never shown again.

    With `parent_id` it is of a browser's session, which was opened with that token.
    """
    text = ("mpf_" if parent_id is None else "mps_") + secrets.token_urlsafe(32)
    token = Token(user_id=user_id, name=name, digest=digest_of(text))
    token.expires_at, token.scope = expires_at, scope
    token.is_session, token.parent_id = parent_id is not None, parent_id
    db.session.add(token)
    db.session.flush()
    return token.id, text


def revoke_token(token: Token) -> None:
    """Make a token worthless, and every browser session that was opened with it."""
    now = utc_now()
    opened = select(Token).filter_by(parent_id=token.id, revoked_at=None)
    for one in (token, *db.session.scalars(opened)):
        one.revoked_at = one.revoked_at or now
    db.session.flush()


def init_app(app: Flask) -> None:
    """Require a token on everything but the version and the documentation."""
    with app.app_context():
        read_caller = app.extensions["read_caller"] = caller_reader(db.engine)

    @app.before_request
    def authenticate() -> None:
        path = request.path.rstrip("/")
        if not path.startswith("/api/") or path in OPEN_PATHS:
            return
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer" and (found := read_caller(token.strip(), False)):
            g.caller, g.log = found
            count_request()
            needed = READ if request.method in READING else SUBMIT
            if not g.caller.may(needed):
                abort(403, f"This token's scope is {g.caller.scope}: it cannot change anything")
            return
        if token:
            count_failure()
        abort(401, "A valid token is needed: Authorization: Bearer <token>")
