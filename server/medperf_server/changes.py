"""The append-only change log behind `GET /changes/`.

Cursors are allotted by updating a one-row counter: the row lock is held until commit, so cursors
become visible in the order they were given and a reader never skips one (a plain sequence lets a
later number commit first).

The log is a hash chain: each row's digest covers the row and the digest before it, down to a
beginning that no other registry has. Who has read up to a cursor, and tells the digest that stood
there, finds out whether this is still the past that they have read.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from flask import g, has_request_context
from sqlalchemy import ColumnElement, bindparam, event, insert, inspect, or_, select, true, update
from sqlalchemy.orm import Session, UOWTransaction
from sqlalchemy.orm.attributes import flag_modified

from medperf_server.base import Base, db, utc_now
from medperf_server.callers import Caller
from medperf_server.kinds import circles, joining, kind_of
from medperf_server.kinds.kind import Circle, Kind
from medperf_server.models import Change, ChangeCounter

# Made once: all who write wait for who executes them.
COUNTER = ChangeCounter.__table__
ADVANCE = (
    update(COUNTER)
    .values(value=COUNTER.c.value + bindparam("count"))
    .returning(COUNTER.c.value, COUNTER.c.digest)
)
APPEND = insert(Change.__table__)
CLOSE = update(COUNTER).values(digest=bindparam("head"))
MODIFIED = "modified_at"

# Type, UID and action of a change, and who may see it.
News = tuple[str, int, str, str | None]


def visible_changes(caller: Caller) -> ColumnElement[bool]:
    """Which rows of the log the caller may see."""
    if caller.is_admin:
        return true()
    return or_(Change.audience.is_(None), Change.audience.contains(f",{caller.id},"))


def _only(members: Iterable[int | None]) -> str:
    """The user IDs that may see a change, as `,1,2,`."""
    return "," + ",".join(str(m) for m in sorted({m for m in members if m})) + ","


def _was_private(kind: Kind[Any], entity: Any) -> Sequence[bool]:
    """Whether it was private, if that changes just now; else nothing."""
    if not isinstance(kind.sight, Circle):
        return ()
    was: Sequence[bool] = inspect(entity).attrs[kind.sight.private.key].history.deleted
    return was


def _audience(session: Session, kind: Kind[Any], entity: Any) -> str | None:
    """Who may see the change; None for everyone."""
    # Where it was public until now, everyone has to forget it.
    public = False in _was_private(kind, entity)
    viewers = None if public else kind.viewers(session, entity)
    return None if viewers is None else _only(viewers)


def _news_of_privacy(session: Session, kind: Kind[Any], uid: int) -> Iterator[News]:
    """What the owners of what it is joined with learn or have to forget when privacy begins or
    ends."""
    for joint, side, other in joining(kind):
        owners = select(joint.table.id, other.kind.table.owner).join(
            other.kind.table, other.kind.table.id == other.column
        )
        for joined, owner in session.execute(owners.where(side.column == uid)):
            yield joint.name, joined, "updated", _only([owner])


def _news_of_invitation(
    session: Session, kind: Kind[Any], circle: Circle, row: Any
) -> Iterator[News]:
    """For a member something private comes, or goes, and with it their part in it.

    Its owner, who invited them, is told that the registry knows.
    """
    uid, member = getattr(row, circle.thing.key), getattr(row, circle.member.key)
    entity = session.get(kind.table, uid)
    owner = getattr(entity, circle.owner.key) if entity else None
    yield kind.name, uid, "updated", _only([member, owner])
    for joint, side, other in joining(kind):
        theirs = select(joint.table.id).join(other.kind.table, other.kind.table.id == other.column)
        found = theirs.where(side.column == uid, other.kind.table.owner == member)
        for joined in session.scalars(found):
            yield joint.name, joined, "updated", _only([member])


def _news(session: Session, action: str, entity: Base) -> Iterator[News]:
    for kind, circle in circles():
        if type(entity) is circle.table:
            yield from _news_of_invitation(session, kind, circle, entity)
    if told := kind_of(type(entity)):
        uid = entity.id  # type: ignore[attr-defined]
        yield told.name, uid, action, _audience(session, told, entity)
        if _was_private(told, entity):
            yield from _news_of_privacy(session, told, uid)


def link(before: str, row: Mapping[Any, Any]) -> str:
    """The digest of a row: SHA-256, hexadecimal, of the digest before it and all that it says."""
    at: datetime = row["created_at"].astimezone(timezone.utc)
    said = [row[name] for name in ("cursor", "entity_type", "entity_id", "action", "audience")]
    content = [before, *said, at.isoformat(timespec="microseconds")]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def counted() -> Any:
    """The counter's row, whose attributes are those of `ChangeCounter`."""
    return db.session.connection().execute(select(COUNTER)).one()


def digest_at(cursor: int, counter: Any) -> str:
    """The digest of the last row up to a cursor; where none is, that of the beginning."""
    found = select(Change.digest).where(Change.cursor <= cursor).order_by(Change.cursor.desc())
    return db.session.scalar(found.limit(1)) or counter.genesis


def stands(cursor: int, log: str | None, counter: Any) -> bool:
    """Whether the log goes as far as a cursor, and the digest there is `log`, if that is given."""
    return cursor <= counter.value and (log is None or log == digest_at(cursor, counter))


def _append(session: Session, told: Sequence[News]) -> None:
    """Log what a flush changed, in its transaction; others who do so wait until that ends."""
    connection = session.connection()
    counter = connection.execute(ADVANCE, {"count": len(told)}).one()
    digest, rows = counter.digest, []
    for cursor, (kind, uid, how, audience) in enumerate(told, counter.value - len(told) + 1):
        row: dict[str, Any] = {
            "cursor": cursor,
            "entity_type": kind,
            "entity_id": uid,
            "action": how,
            "audience": audience,
            "created_at": utc_now(),
        }
        row["digest"] = digest = link(digest, row)
        rows.append(row)
    connection.execute(APPEND, rows)
    connection.execute(CLOSE, {"head": digest})


def touched(session: Session) -> list[tuple[str, Any]]:
    """What a flush created, updated and deleted, each with that word; but for what is no news."""
    found = [("created", entity) for entity in session.new]
    modified = (entity for entity in session.dirty if session.is_modified(entity))
    found += [("updated", entity) for entity in modified if not _quiet(entity)]
    return found + [("deleted", entity) for entity in session.deleted]


def _quiet(entity: Any) -> str:
    """An entity of which nothing changes but what is no news, as `gadget/3`; of others nothing."""
    kind = kind_of(type(entity))
    if kind is None or not kind.quiet:
        return ""
    changed = {one.key for one in inspect(entity).attrs if one.history.has_changes()}
    no_news = {MODIFIED, *(column.key for column in kind.quiet)}
    return f"{kind.name}/{entity.id}" if changed <= no_news else ""


def _keep_times(session: Session, *_: Any) -> None:
    """What is no news leaves the time of the last change as it is, which lists show.

    `g.quiet` names what changes like that, and very often.
    """
    for entity in session.dirty:
        if session.is_modified(entity) and (quiet := _quiet(entity)):
            flag_modified(entity, MODIFIED)
            if has_request_context():
                g.quiet = quiet


def _log(session: Session, _: UOWTransaction) -> None:
    with session.no_autoflush:
        told = [
            one for action, entity in touched(session) for one in _news(session, action, entity)
        ]
        if told:
            _append(session, told)


def init_app() -> None:
    """Log every flush of an entity, in the transaction that writes it."""
    if not event.contains(db.session, "after_flush", _log):
        event.listen(db.session, "before_flush", _keep_times)
        event.listen(db.session, "after_flush", _log)
