"""What a member is told without asking: the newest, when they are mailed of what, their feed."""

from typing import Any

from flask import abort, current_app, g, redirect, render_template, request, url_for
from sqlalchemy import select

from medperf_server.api.common import UID
from medperf_server.base import db
from medperf_server.kinds.user.table import User
from medperf_server.limits import count_failure
from medperf_server.notices.choices import EVENTS, choices_of, choose, may_stop, stop
from medperf_server.notices.events import AT_ONCE, CHOICES, DAILY, NEVER
from medperf_server.notices.feed import close_feed, lines_for, open_feed
from medperf_server.notices.table import NoticeFeed
from medperf_server.web.blueprint import blueprint
from medperf_server.web.notices import notify

IN_WORDS = {AT_ONCE: "at once", DAILY: "once a day", NEVER: "never"}
SHOWN = 10


@blueprint.get("/notices/")
def notices() -> Any:
    """The newest notices, and what the member chose."""
    return _page()


@blueprint.post("/notices/")
def choose_notices() -> Any:
    """Choose when to be mailed of what."""
    wanted = {name: request.form[name] for name in EVENTS if name in request.form}
    if not set(wanted.values()) <= set(CHOICES):
        abort(400, "That is no choice: open the page again and repeat")
    choose(g.caller.id, wanted)
    notify("Saved.")
    return redirect(url_for("web.notices"), 303)


@blueprint.post("/notices/feed")
def make_feed() -> Any:
    """Give the member's feed a new address; the page that answers shows it, this once."""
    return _page(request.host_url.rstrip("/") + open_feed(g.caller.id))


@blueprint.post("/notices/feed/revoke")
def revoke_feed() -> Any:
    """Make the address of the member's feed worthless."""
    close_feed(g.caller.id)
    notify("The address of your feed is worthless from now on.")
    return redirect(url_for("web.notices"), 303)


@blueprint.get(f"/notices/stop/<{UID}:uid>/<key>")
def stop_mail(uid: int, key: str) -> Any:
    """Asks whether to stop all mails to a member: programs that preview links only look."""
    return render_template("stop_mail.html", address=_stopped_by(uid, key).email, done=False)


@blueprint.post(f"/notices/stop/<{UID}:uid>/<key>")
def stop_mail_now(uid: int, key: str) -> Any:
    """Stop all mails to a member, for whoever has the link; also with one click (RFC 8058)."""
    address = _stopped_by(uid, key).email
    stop(uid)
    # Nobody is signed in, for whom it would be done after this.
    db.session.commit()
    return render_template("stop_mail.html", address=address, done=True)


def _stopped_by(uid: int, key: str) -> User:
    member = db.session.get(User, uid) if may_stop(uid, key) else None
    if member is None:
        count_failure()
        abort(404, "This link is of no use any more: sign in, and choose under You, Notices")
    return member


def _page(feed: str = "") -> str:
    member = db.session.scalars(select(User).filter_by(id=g.caller.id)).one()
    return render_template(
        "notices.html",
        lines=lines_for(member, SHOWN),
        events=EVENTS.values(),
        chosen=choices_of(db.session(), [member.id])[member.id],
        choices=IN_WORDS,
        is_mailing=bool(current_app.config["SMTP_URL"]),
        since=db.session.scalar(select(NoticeFeed.created_at).filter_by(user_id=member.id)),
        feed=feed,
    )
