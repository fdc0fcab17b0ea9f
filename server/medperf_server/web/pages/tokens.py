"""A member's own tokens: make one, see what there are, revoke."""

from datetime import timedelta
from typing import Any

from flask import abort, g, redirect, render_template, request, url_for
from marshmallow import ValidationError
from sqlalchemy import select

from medperf_server.api.common import UID
from medperf_server.auth import in_words, issue_token, revoke_token
from medperf_server.base import db, utc_now
from medperf_server.models import SCOPES, Token
from medperf_server.names import check_name
from medperf_server.web.blueprint import blueprint
from medperf_server.web.notices import notify
from medperf_server.web.numbers import whole
from medperf_server.web.session import opened_with
from medperf_server.web.tables import newest
from medperf_server.web.words import told

MOST_DAYS = 3650


@blueprint.get("/tokens/")
def tokens() -> Any:
    """The member's tokens, and a form for another."""
    return _page()


@blueprint.post("/tokens/")
def make_token() -> Any:
    """Make a token; the page that answers shows it, this once."""
    scope, days = request.form.get("scope", ""), request.form.get("days", "")
    if scope not in SCOPES or not g.caller.may(scope):
        abort(403, "A token may do no more than the one you signed in with")
    lasts = whole(days, MOST_DAYS)
    if days and not lasts:
        return _page(error=f"Days is a number from 1 to {MOST_DAYS}, or nothing"), 400
    expires_at = utc_now() + timedelta(days=lasts) if lasts else None
    name = request.form.get("name", "").strip()[:128]
    try:
        check_name(name)
    except ValidationError as error:
        return _page(error=told(error)), 400
    if not name:
        return _page(error="A token needs a name, so that you know it again"), 400
    _, made = issue_token(g.caller.id, name, expires_at, scope, opened_with())
    return _page(made=made)


@blueprint.post(f"/tokens/<{UID}:uid>/revoke")
def revoke_own_token(uid: int) -> Any:
    """Make one of the member's tokens worthless, and what came of it.

    But for the one that this session was opened with: so a member changes an old token for a new.
    """
    token = db.session.scalar(select(Token).filter_by(id=uid, user_id=g.caller.id))
    if token is None:
        abort(404)
    gone = revoke_token(token, spared=opened_with())
    notify(f"Token {uid} is worthless from now on{in_words(gone)}.")
    return redirect(url_for("web.tokens"), 303)


def _page(made: str | None = None, error: str | None = None) -> str:
    scopes = [scope for scope in SCOPES if g.caller.may(scope)]
    return render_template(
        "tokens.html",
        tokens=newest(Token, 100, Token.user_id == g.caller.id),
        scopes=scopes,
        made=made,
        error=error,
        now=utc_now(),
        server=request.host_url.rstrip("/"),
    )
