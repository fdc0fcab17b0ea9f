"""Requests and decisions, of whatever kind: who is told of them, and in which words."""

from collections.abc import Iterator
from typing import Any

from sqlalchemy.orm import Session

from medperf_server.base import PENDING
from medperf_server.kinds import kind_of
from medperf_server.kinds.kind import Pair
from medperf_server.notices.events import AT_ONCE, Event, News, called, changed
from medperf_server.notices.table import Notice

# The fact that says what is in something no more, because an administrator removed that it is.
REMOVED = "removed"


def told_of_pair(pair: Pair[Any], session: Session, action: str, entity: Any) -> Iterator[News]:
    """Who is told of a request that is made, decided or removed: the owners of both sides."""
    sides = [side.of(session, entity) for side in pair.sides]
    owners = {one.owner for one in sides if one is not None}
    status = entity.approval_status
    if action == "deleted":
        joining, joined = pair.sides
        facts = {REMOVED: f"{joining.title} {getattr(entity, joining.column.key)}"}
        uid = getattr(entity, joined.column.key)
        yield News(DECISION, owners, joined.kind, uid, facts)
    elif action == "created" and status == PENDING:
        yield News(REQUEST, owners - {entity.initiated_by}, pair, entity.id)
    elif action == "created" or "approval_status" in changed(entity):
        everyone = owners | {entity.initiated_by}
        yield News(DECISION, everyone, pair, entity.id, {"status": status})


def _sides_in_words(session: Session, entity: Any) -> tuple[str, str]:
    """What the sides of a pair are called; of what is no pair what it is called, and nothing."""
    kind = kind_of(type(entity))
    assert kind is not None
    if not isinstance(kind, Pair):
        return called(kind.title, entity), ""
    first, second = (called(side.title, side.of(session, entity)) for side in kind.sides)
    return first, second


def _asked(session: Session, notice: Notice, entity: Any) -> str | None:
    if entity.approval_status != PENDING:
        return None
    first, joined = _sides_in_words(session, entity)
    wanted = f"to be in {joined}" if joined else "to be approved"
    return f"{first} asks {wanted}: it waits for a decision"


def _decided(session: Session, notice: Notice, entity: Any) -> str | None:
    first, joined = _sides_in_words(session, entity)
    if REMOVED in notice.facts:
        return f"{notice.facts[REMOVED]} was taken out of {first}"
    status = notice.facts["status"]
    where = f" in {joined}" if joined else ""
    reason = getattr(entity, "reason", "") if entity.approval_status == status else ""
    return f"{first} is {status.lower()}{where}" + (f": {reason}" if reason else "")


REQUEST = Event("request", "A request waits for my decision", AT_ONCE, _asked)
DECISION = Event(
    "decision", "A request of mine, or about something of mine, is decided", AT_ONCE, _decided
)
