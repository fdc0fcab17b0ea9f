"""Bearer tokens: making, storing (hashed) and checking them (RFC 6750)."""

import secrets
from datetime import datetime

from flask import Flask, abort, g, request
from marshmallow import ValidationError
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from medperf_server.assets.sharing import refuse, require_link
from medperf_server.base import db, folded, utc_now
from medperf_server.callers import caller_reader, digest_of
from medperf_server.kinds.user.table import User
from medperf_server.limits import count_failure, count_request
from medperf_server.links import is_followed
from medperf_server.models import ADMIN, READ, SUBMIT, Token

READING = ("GET", "HEAD", "OPTIONS")
OPEN_PATHS = ("/api/v0/version", "/api/v0/openapi.json", "/api/v0/docs")


def add_user(email: str, is_admin: bool = False) -> User:
    """Add a new member to the session; the address is the username until an admin changes it.

    Raises `ValidationError` if it belongs to another member, be it one who joins at this moment.
    """
    user = User(username=email, email=email, is_admin=is_admin)
    try:
        with db.session.begin_nested():
            db.session.add(user)
    except IntegrityError as error:
        raise ValidationError({"email": [f"{email!r} belongs to another member"]}) from error
    return user


def find_user(email: str) -> User | None:
    """The member with this address, in upper or lower case."""
    return db.session.scalar(select(User).filter_by(email_key=folded(email)))


def join(email: str) -> User:
    """The member with this address, new unless it is known, and theirs alone until the end of the
    transaction: whoever admits them at once finds the one that the first has made.

    Raises `ValidationError` if the address is another member's username.
    """
    try:
        member = find_user(email) or add_user(email)
    except ValidationError:
        if (found := find_user(email)) is None:
            raise
        member = found
    _lock(member.id)
    return member


def _lock(user_id: int) -> None:
    """Have a member's row until the transaction ends; who only refers to it does not wait."""
    db.session.get_one(User, user_id, with_for_update={"key_share": True}, populate_existing=True)


def issue_token(
    user_id: int,
    name: str = "",
    expires_at: datetime | None = None,
    scope: str = ADMIN,
    parent_id: int | None = None,
    is_session: bool = False,
) -> tuple[int, str]:
    """Add a new token to the session; its ID, and its text, which is never shown again.

    `parent_id` is the token that was good for it: it goes with that one, and ends with it at the
    latest. 401 if that is revoked already, be it at this moment.
    """
    if parent_id is not None:
        _lock(user_id)
        parent = db.session.get_one(Token, parent_id, populate_existing=True)
        if parent.revoked_at is not None:
            abort(401, "The token that you signed in with was revoked")
        ends = [moment for moment in (expires_at, parent.expires_at) if moment]
        expires_at = min(ends, default=None)
    text = ("mps_" if is_session else "mpf_") + secrets.token_urlsafe(32)
    token = Token(user_id=user_id, name=name, digest=digest_of(text))
    token.expires_at, token.scope = expires_at, scope
    token.is_session, token.parent_id = is_session, parent_id
    db.session.add(token)
    db.session.flush()
    return token.id, text


def revoke_token(token: Token, spared: int | None = None) -> list[Token]:
    """Make a token worthless, and all that came of it: sessions, and tokens that were made in them.

    Returns what went with it. `spared` is a token that stays all the same, with what came of it.
    """
    # Nothing comes of any of them meanwhile.
    _lock(token.user_id)
    gone = select(Token.id).where(Token.id == token.id).cte("gone", recursive=True)
    came = select(Token.id).join(gone, Token.parent_id == gone.c.id)
    gone = gone.union(came.where(Token.id != spared) if spared else came)
    valid = select(Token).where(Token.id.in_(select(gone.c.id)), Token.revoked_at.is_(None))
    others = [one for one in db.session.scalars(valid.order_by(Token.id)) if one is not token]
    now = utc_now()
    for one in (token, *others):
        one.revoked_at = one.revoked_at or now
    db.session.flush()
    return others


def in_words(gone: list[Token]) -> str:
    """What went with a token that was revoked, to go on with after "is worthless"."""
    tokens = [str(one.id) for one in gone if not one.is_session]
    sessions = len(gone) - len(tokens)
    parts = [f"the tokens {', '.join(tokens)} that came of it"] if tokens else []
    if sessions:
        parts.append(f"{sessions} browser {'session' if sessions == 1 else 'sessions'}")
    return f", and with it {' and '.join(parts)}" if parts else ""


def init_app(app: Flask) -> None:
    """Require a token on all but the version, the documentation, and files that have links."""
    with app.app_context():
        read_caller = app.extensions["read_caller"] = caller_reader(db.engine)

    @app.before_request
    def authenticate() -> None:
        path = request.path.rstrip("/")
        if not path.startswith("/api/") or path in OPEN_PATHS:
            return
        if is_followed():
            require_link((request.view_args or {})["sha256"])
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
        refuse()
