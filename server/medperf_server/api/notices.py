"""What the caller is told without asking: when they are mailed of what, and their feed."""

from typing import Any

from flask import g, request
from flask.views import MethodView
from marshmallow import Schema, fields, validate

from medperf_server.answers import not_kept
from medperf_server.api.common import Blueprint
from medperf_server.base import db
from medperf_server.notices.choices import EVENTS, choices_of, choose
from medperf_server.notices.events import CHOICES
from medperf_server.notices.feed import close_feed, open_feed
from medperf_server.notices.table import NoticeFeed

blueprint = Blueprint("notices", __name__, description="Notices")

MailSchema = Schema.from_dict(
    {
        event.name: fields.String(
            validate=validate.OneOf(CHOICES), metadata={"description": event.title}
        )
        for event in EVENTS.values()
    },
    name="NoticeMailSchema",
)


class NoticesSchema(Schema):
    """When the caller is mailed of what; since when their feed has its address, null for none."""

    mail = fields.Nested(MailSchema)
    feed_since = fields.DateTime(format="iso", dump_only=True, allow_none=True)


class FeedSchema(Schema):
    """The address of a feed, which is told this once."""

    url = fields.String()


def _told() -> dict[str, Any]:
    not_kept()
    feed = db.session.get(NoticeFeed, g.caller.id)
    mail = choices_of(db.session(), [g.caller.id])[g.caller.id]
    return {"mail": mail, "feed_since": feed and feed.created_at}


@blueprint.route("/me/notices/")
class NoticesView(MethodView):
    """What the caller chose."""

    @blueprint.response(200, NoticesSchema)
    def get(self) -> dict[str, Any]:
        """When the caller is mailed of what, and whether they have a feed."""
        return _told()

    @blueprint.arguments(NoticesSchema)
    @blueprint.response(200, NoticesSchema)
    def put(self, values: dict[str, Any]) -> dict[str, Any]:
        """Choose for some events: `at_once`, `daily` or `never`; others stay as they are."""
        choose(g.caller.id, values.get("mail", {}))
        return _told()


@blueprint.route("/me/notices/feed/")
class FeedView(MethodView):
    """The caller's feed."""

    @blueprint.response(201, FeedSchema)
    def post(self) -> dict[str, str]:
        """Give the caller's feed a new address, told this once; the one before is worthless."""
        return {"url": request.host_url.rstrip("/") + open_feed(g.caller.id)}

    @blueprint.response(204)
    def delete(self) -> None:
        """Make the address of the caller's feed worthless."""
        close_feed(g.caller.id)
