"""A member's notices as an Atom feed (RFC 4287), at an address that nobody can guess."""

import secrets
import uuid
from itertools import islice
from typing import Any

from flask import Flask, Response, abort, render_template, request
from sqlalchemy import select

from medperf_server.base import db
from medperf_server.callers import digest_of
from medperf_server.changes import counted
from medperf_server.kinds.user.table import User
from medperf_server.limits import count_failure
from medperf_server.notices.choices import take_turns
from medperf_server.notices.table import Notice, NoticeFeed
from medperf_server.notices.wording import Line, line_of

PATH = "/feeds/"
# So many that a member may see, among so many of the newest.
ENTRIES, LOOKED_AT = 50, 200


def open_feed(member: int) -> str:
    """A new path for a member's feed, never told again; the one before is worthless."""
    take_turns(member)
    close_feed(member)
    secret = "mpn_" + secrets.token_urlsafe(32)
    db.session.add(NoticeFeed(user_id=member, digest=digest_of(secret)))
    db.session.flush()
    return PATH + secret


def close_feed(member: int) -> None:
    """Make the address of a member's feed worthless, if there is one."""
    if feed := db.session.get(NoticeFeed, member):
        db.session.delete(feed)
        db.session.flush()


def lines_for(member: User, most: int = ENTRIES) -> list[Line]:
    """What there is to tell a member, the newest first, so much at most."""
    newest = select(Notice).filter_by(user_id=member.id).order_by(Notice.id.desc())
    found = (
        line_of(db.session(), member, notice)
        for notice in db.session.scalars(newest.limit(LOOKED_AT)).all()
    )
    return list(islice(filter(None, found), most))


def _member_of(secret: str) -> User:
    theirs = select(User).join(NoticeFeed, NoticeFeed.user_id == User.id)
    found = db.session.scalar(theirs.where(NoticeFeed.digest == digest_of(secret), User.is_active))
    if found is None:
        count_failure()
        abort(404, "There is no such feed, or its address was revoked")
    return found


def init_app(app: Flask) -> None:
    """Serve every member's feed to whoever has its address."""

    @app.get(f"{PATH}<secret>")
    def feed(secret: str) -> Any:
        """A member's notices, the newest first."""
        member = _member_of(secret)
        past = counted().genesis

        def uid(of: str) -> str:
            """The same at every address that the registry may have, and in no other registry."""
            return uuid.uuid5(uuid.NAMESPACE_OID, f"{past}/{of}").urn

        lines = lines_for(member)
        text = render_template(
            "feed.xml",
            uid=uid(f"feed/{member.id}"),
            entries=[(uid(f"notice/{line.uid}"), line) for line in lines],
            updated=lines[0].at if lines else member.created_at,
            root=request.host_url.rstrip("/"),
            here=request.base_url,
        )
        answer = Response(text, mimetype="application/atom+xml")
        answer.headers["Cache-Control"] = "private, no-cache"
        answer.add_etag()
        return answer.make_conditional(request)
