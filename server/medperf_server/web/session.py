"""Signed in with a browser: a cookie that is a token of its own, and forms nobody can forge.

The session is a row of the tokens table, so that every worker of every host knows it, and whoever
revokes the token it was opened with ends it. The form token is an HMAC of the cookie, which
scripts cannot read (OWASP's "Cross-Site Request Forgery Prevention").
"""

import hmac
from datetime import timedelta
from typing import Any

from flask import Flask, abort, current_app, g, redirect, request, url_for
from sqlalchemy import select
from werkzeug.wrappers import Response

from medperf_server.auth import issue_token, revoke_token
from medperf_server.base import db, utc_now
from medperf_server.callers import Caller
from medperf_server.kinds.user.table import User
from medperf_server.limits import count_failure, count_request
from medperf_server.models import SUBMIT, Token

COOKIE = "medperf_session"
HOURS = 12
# Of these pages nobody needs to be signed in.
OPEN = {"web.sign_in", "web.sign_in_form", "web.invitation", "web.accept_invitation", "web.static"}
# Nor of these, whose links are secrets: programs that read mail send such a form, too.
LINKED = {"web.stop_mail", "web.stop_mail_now"}


def open_session(token: str) -> str | None:
    """The cookie of a new session, opened with an API token; None if the token is not valid."""
    found = current_app.extensions["read_caller"](token.strip(), False)
    return begin_session(found[0]) if found else None


def begin_session(caller: Caller) -> str:
    """The cookie of a new session of a caller, which ends with their token at the latest.

    It takes the place of the browser's session, if there is one.
    """
    if "caller" in g:
        end_session()
    ends = utc_now() + timedelta(hours=HOURS)
    g.caller, g.email = caller, db.session.scalar(select(User.email).filter_by(id=caller.id))
    parent = caller.token_id
    _, secret = issue_token(caller.id, "browser", ends, caller.scope, parent, is_session=True)
    g.new_cookie = secret
    return secret


def end_session() -> None:
    """Make the present session's cookie worthless."""
    revoke_token(db.session.get_one(Token, g.caller.token_id))


def opened_with() -> int:
    """The ID of the token that the present session was opened with."""
    found = db.session.get_one(Token, g.caller.token_id).parent_id
    assert found is not None
    return found


def remember(response: Response, secret: str) -> Response:
    """Hand a session's cookie to the browser."""
    response.set_cookie(
        COOKIE,
        secret,
        max_age=HOURS * 3600,
        httponly=True,
        samesite="Lax",
        secure=request.is_secure,
    )
    return response


def form_token() -> str:
    """What every form of the present session carries; empty where nobody is signed in."""
    cookie = g.get("new_cookie") or request.cookies.get(COOKIE, "")
    return hmac.digest(cookie.encode(), b"form", "sha256").hex() if cookie else ""


def local(path: str | None) -> str:
    """A path of this site, to go on at; the home page for anything else."""
    # Browsers take a backslash for a slash, and drop tabs and line breaks.
    plain = path is not None and path.isprintable() and "\\" not in path
    return path if path and plain and path.startswith("/") and path[1:2] != "/" else "/"


def is_page() -> bool:
    """Whether a page was asked for, be it one that is not there."""
    known = request.blueprint == "web" or request.endpoint is None
    return known and not request.path.startswith("/api/")


def _recognise() -> None:
    """Find out who sent the request, by its cookie."""
    if not is_page() or request.endpoint == "web.static":
        return
    cookie = request.cookies.get(COOKIE)
    if not cookie:
        return
    found = current_app.extensions["read_caller"](cookie, True)
    if found is None:
        # Expired, mostly; but nobody may try them out. Nor may it keep anyone from signing in.
        if request.endpoint not in OPEN:
            count_failure()
        return
    g.caller, g.log = found
    g.email = db.session.scalar(select(User.email).where(User.id == g.caller.id))
    count_request()


def guard() -> Any:
    """Let pages be seen by who is signed in, and forms be sent by who was shown them."""
    if request.endpoint in LINKED:
        return None
    if request.method == "POST":
        _check_origin()
    if request.endpoint in OPEN:
        return None
    if "caller" not in g:
        if request.method == "POST":
            abort(401, "You are not signed in any more: nothing was changed")
        return _to_sign_in()
    if request.method == "POST":
        given = request.form.get("form_token", "")
        if not hmac.compare_digest(given.encode(), form_token().encode()):
            abort(403, "This form is out of date, or not ours: open the page again and repeat")
        if request.endpoint != "web.sign_out" and not g.caller.may(SUBMIT):
            abort(403, f"The token you signed in with only lets you {g.caller.scope}")
    return None


def _to_sign_in() -> Response:
    """On to the form that asks for a token, and back here from there."""
    response = redirect(url_for("web.sign_in", next=local(request.full_path.rstrip("?"))))
    if COOKIE in request.cookies:
        # Worthless, and it would count as a failure to sign in with every page asked for.
        response.delete_cookie(COOKIE)
    return response


def _check_origin() -> None:
    """Refuse what another site makes a browser send, or a page that does not say which it is of."""
    origin = request.headers.get("Origin")
    if origin is not None and origin.partition("://")[2] != request.host:
        abort(403, "This form was sent by another site")
    if request.headers.get("Sec-Fetch-Site", "none") not in ("same-origin", "none"):
        abort(403, "This form was sent by another site")


def init_app(app: Flask) -> None:
    """Recognise sessions before anything depends on who asks."""
    app.before_request(_recognise)
