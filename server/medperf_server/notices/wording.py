"""What a notice says to its member at this moment, as far as they may see what it is of."""

from dataclasses import dataclass
from datetime import datetime

from flask import current_app
from sqlalchemy import select
from sqlalchemy.orm import Session

from medperf_server.callers import Caller
from medperf_server.kinds import KINDS
from medperf_server.kinds.user.table import User
from medperf_server.notices.choices import EVENTS
from medperf_server.notices.decisions import REMOVED
from medperf_server.notices.table import Notice
from medperf_server.policy import visible

# Of a notice, in characters: names and reasons are others' words.
LONGEST = 400


@dataclass(frozen=True)
class Line:
    """A notice in words, and the path of the page that has more."""

    uid: int
    at: datetime
    text: str
    path: str


def line_of(session: Session, member: User, notice: Notice) -> Line | None:
    """What a notice says to its member; None if that is not to be told, or not any more."""
    event = EVENTS.get(notice.event)
    if event is None:
        return None
    entity, path = None, "/"
    if notice.entity_type:
        kind = next((one for one in KINDS if one.name == notice.entity_type), None)
        if kind is None:
            return None
        table = kind.table
        if session.get(table, notice.entity_id) is None:
            if REMOVED not in notice.facts:
                return None
            # Who had something in it knows the UID.
            gone = f"{kind.title.capitalize()} {notice.entity_id} was removed from the registry"
            return Line(notice.id, notice.created_at, gone, path)
        who = Caller(member.id, member.is_admin)
        seen = select(table).where(table.id == notice.entity_id, visible(who, kind))
        if (entity := session.scalar(seen)) is None:
            return None
        path = _page(kind.title, notice.entity_id) or event.listed
    text = event.words(session, notice, entity)
    if text is None:
        return None
    text = " ".join(text.split())
    short = text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
    return Line(notice.id, notice.created_at, short[:1].upper() + short[1:], path)


def _page(title: str, uid: int) -> str:
    """The path of an entity's page; empty of one that has none."""
    endpoint = f"web.{title.replace(' ', '_')}"
    if endpoint not in current_app.view_functions:
        return ""
    return current_app.url_map.bind("").build(endpoint, {"uid": uid})
