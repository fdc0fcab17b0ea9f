"""What administrators do: members, invitations, tokens, approval of benchmarks, the audit log."""

from collections.abc import Callable
from datetime import datetime, timezone
from functools import wraps
from typing import Any

from flask import g, redirect, render_template, request, url_for
from marshmallow import ValidationError
from sqlalchemy import ColumnElement, select, true

from medperf_server import invitations
from medperf_server.api.common import UID, find, update
from medperf_server.auth import in_words, revoke_token
from medperf_server.base import db, utc_now
from medperf_server.kinds.benchmark.table import Benchmark
from medperf_server.kinds.user import USER
from medperf_server.kinds.user.rules import check_admins_left
from medperf_server.kinds.user.schemas import UserSchema
from medperf_server.kinds.user.table import User
from medperf_server.models import AuditEntry, Invitation, Token
from medperf_server.policy import require_admin
from medperf_server.web.blueprint import blueprint
from medperf_server.web.notices import notify
from medperf_server.web.numbers import whole
from medperf_server.web.tables import newest, page_of
from medperf_server.web.words import refusals, told

MOST_GIB = 999_999
View = Callable[..., Any]


def admins_only(view: View) -> View:
    """A page for administrators, signed in with a token that lets them be one."""

    @wraps(view)
    def guarded(**arguments: Any) -> Any:
        require_admin(g.caller)
        return view(**arguments)

    return guarded


@blueprint.get("/admin/")
@admins_only
def admin() -> Any:
    """The members."""
    sorts = {"id": User.id, "email": User.email, "created": User.created_at}
    page = page_of(User, true(), sorts, (User.email, User.username, User.last_name))
    return render_template("admin_members.html", page=page)


@blueprint.get(f"/admin/members/<{UID}:uid>")
@admins_only
def admin_member(uid: int) -> Any:
    """One member, their tokens, and what can be done with them."""
    user = find(USER, uid)
    return render_template(
        "admin_member.html",
        user=user,
        quota=_gib(user.quota_bytes),
        tokens=newest(Token, 200, Token.user_id == uid),
        now=utc_now(),
    )


@blueprint.post(f"/admin/members/<{UID}:uid>")
@admins_only
def change_member(uid: int) -> Any:
    """Let a member in or keep them out, make them an administrator or not, set their quota."""
    user = find(USER, uid, lock=True)
    values: dict[str, Any] = {name: name in request.form for name in ("is_active", "is_admin")}
    quota = request.form.get("quota_gib", "").strip()
    with refusals():
        check_admins_left(values, user)
        if quota != _gib(user.quota_bytes):
            values["quota_bytes"] = _bytes(quota)
        update(user, values)
        notify(f"{user.email} is changed.")
    return redirect(url_for("web.admin_member", uid=uid), 303)


@blueprint.get("/admin/tokens")
@admins_only
def admin_tokens() -> Any:
    """Everyone's tokens and sessions."""
    email = select(User.email).where(User.id == Token.user_id).scalar_subquery()
    sorts = {"id": Token.id, "email": email, "created": Token.created_at}
    page = page_of(Token, true(), sorts, (email, Token.name), ("scope",))
    return render_template("admin_tokens.html", page=page, now=utc_now())


@blueprint.post(f"/admin/tokens/<{UID}:uid>/revoke")
@admins_only
def revoke_any_token(uid: int) -> Any:
    """Make anyone's token worthless, and all that came of it, this session not spared."""
    token = db.get_or_404(Token, uid, description="Not found.")
    gone = revoke_token(token)
    notify(f"Token {uid} is worthless from now on{in_words(gone)}.")
    return redirect(url_for("web.admin_member", uid=token.user_id), 303)


@blueprint.get("/admin/invitations")
@admins_only
def admin_invitations() -> Any:
    """The invitations, and a form for another."""
    return _invitations()


@blueprint.post("/admin/invitations")
@admins_only
def invite() -> Any:
    """Make an invitation; the page that answers shows its link, this once."""
    email = request.form.get("email", "").strip()
    try:
        UserSchema().load({"email": email})
        benchmark = request.form.get("benchmark", "").strip()
        shown = whole(benchmark)
        if benchmark and (shown is None or db.session.get(Benchmark, shown) is None):
            raise ValidationError(f"There is no benchmark {benchmark}", "benchmark")
    except ValidationError as error:
        return _invitations(error=told(error)), 400
    _, secret = invitations.create(
        email,
        is_admin="is_admin" in request.form,
        benchmark=shown,
        created_by=g.caller.id,
    )
    return _invitations(url_for("web.invitation", secret=secret, _external=True), email)


@blueprint.post(f"/admin/invitations/<{UID}:uid>/revoke")
@admins_only
def revoke_invitation(uid: int) -> Any:
    """Make an invitation's link worthless."""
    invitation = db.get_or_404(Invitation, uid, description="Not found.")
    invitation.revoked_at = invitation.revoked_at or utc_now()
    db.session.flush()
    notify(f"The invitation of {invitation.email} is worthless from now on.")
    return redirect(url_for("web.admin_invitations"), 303)


@blueprint.get("/admin/audit")
@admins_only
def audit() -> Any:
    """Who changed what."""
    shown: ColumnElement[bool] = true()
    for bound, day in (("since", request.args.get("since")), ("until", request.args.get("until"))):
        if moment := _day(day):
            shown &= AuditEntry.at >= moment if bound == "since" else AuditEntry.at < moment
    filters = ("entity_type", "entity_id", "action")
    page = page_of(AuditEntry, shown, {"id": AuditEntry.id}, (AuditEntry.actor,), filters)
    kinds = db.session.scalars(select(AuditEntry.entity_type).distinct()).all()
    return render_template("admin_audit.html", page=page, kinds=sorted(kinds))


def _invitations(link: str = "", invited: str = "", error: str = "") -> str:
    sorts = {"id": Invitation.id, "email": Invitation.email}
    page = page_of(Invitation, true(), sorts, (Invitation.email,))
    return render_template(
        "admin_invitations.html",
        page=page,
        link=link,
        invited=invited,
        error=error,
        is_open=invitations.is_open,
    )


def _gib(quota: int | None) -> str:
    """A quota in bytes as its form shows it."""
    return "" if quota is None else f"{quota / 2**30:g}"


def _bytes(quota: str) -> int | None:
    """The bytes of a quota that was typed in GiB; None for the registry's default."""
    gib = whole(quota, MOST_GIB)
    if quota and gib is None:
        raise ValidationError(
            f"A quota is a whole number of GiB up to {MOST_GIB}, or nothing", "quota_bytes"
        )
    return None if gib is None else gib << 30


def _day(text: str | None) -> datetime | None:
    """The start of a day (UTC) from a date field; None for what is none."""
    try:
        return datetime.fromisoformat(text or "").replace(tzinfo=timezone.utc)
    except ValueError:
        return None
