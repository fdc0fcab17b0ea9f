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

from sqlalchemy import bindparam, event, insert, inspect, select, update
from sqlalchemy.orm import Session, UOWTransaction

from medperf_server.models import (
    Association,
    Base,
    Benchmark,
    BenchmarkMember,
    Change,
    ChangeCounter,
    Container,
    User,
    db,
    utc_now,
)

ENTITY_TYPES: dict[type[Base], str] = {
    Benchmark: "benchmark",
    Container: "mlcube",
    Association: "association",
    User: "user",
}


# Made once: all who write wait for who executes them.
COUNTER = ChangeCounter.__table__
ADVANCE = (
    update(COUNTER)
    .values(value=COUNTER.c.value + bindparam("count"))
    .returning(COUNTER.c.value, COUNTER.c.digest)
)
APPEND = insert(Change.__table__)
CLOSE = update(COUNTER).values(digest=bindparam("head"))

# Type, UID and action of a change, and who may see it.
News = tuple[str, int, str, str | None]


def _only(members: Iterable[int | None]) -> str:
    """The user IDs that may see a change, as `,1,2,`."""
    return "," + ",".join(str(m) for m in sorted({m for m in members if m})) + ","


def _shown_to(session: Session, benchmark: Benchmark) -> set[int]:
    """Who may see a private benchmark."""
    invited = select(BenchmarkMember.user_id).filter_by(benchmark=benchmark.id)
    return {benchmark.owner, *session.scalars(invited)}


def _audience(session: Session, entity: Base) -> str | None:
    """Who may see the change; None for everyone."""
    if isinstance(entity, User):
        return _only([entity.id])
    if isinstance(entity, Association):
        container = session.get(Container, entity.model_mlcube)
        benchmark = session.get(Benchmark, entity.benchmark)
        sides = {container and container.owner, benchmark and benchmark.owner}
        if benchmark and benchmark.is_private:
            sides &= _shown_to(session, benchmark)
        return _only(sides)
    # Where a benchmark was public until now, everyone has to forget it.
    if isinstance(entity, Benchmark) and entity.is_private and False not in _was(entity):
        return _only(_shown_to(session, entity))
    return None


def _was(benchmark: Benchmark) -> Sequence[bool]:
    """Whether it was private, if that changes just now; else nothing."""
    was: Sequence[bool] = inspect(benchmark).attrs.is_private.history.deleted
    return was


def _news_of_privacy(session: Session, benchmark: Benchmark) -> Iterator[News]:
    """What the owners of models learn or have to forget when privacy begins or ends."""
    owners = select(Association.id, Container.owner).join(
        Container, Container.id == Association.model_mlcube
    )
    for uid, owner in session.execute(owners.where(Association.benchmark == benchmark.id)):
        yield "association", uid, "updated", _only([owner])


def _news_of_membership(session: Session, member: BenchmarkMember) -> Iterator[News]:
    """For a member the benchmark comes, or goes, and with it their part in it.

    Its owner, who invited them, is told that the registry knows.
    """
    audience = _only([member.user_id])
    benchmark = session.get(Benchmark, member.benchmark)
    owner = benchmark.owner if benchmark else None
    yield "benchmark", member.benchmark, "updated", _only([member.user_id, owner])
    theirs = select(Association.id).join(Container, Container.id == Association.model_mlcube)
    found = theirs.where(
        Association.benchmark == member.benchmark, Container.owner == member.user_id
    )
    for uid in session.scalars(found):
        yield "association", uid, "updated", audience


def _news(session: Session, action: str, entity: Base) -> Iterator[News]:
    if isinstance(entity, BenchmarkMember):
        yield from _news_of_membership(session, entity)
    elif kind := ENTITY_TYPES.get(type(entity)):
        yield kind, entity.id, action, _audience(session, entity)  # type: ignore[attr-defined]
        if isinstance(entity, Benchmark) and _was(entity):
            yield from _news_of_privacy(session, entity)


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
    """What a flush created, updated and deleted, each with that word."""
    found = [("created", entity) for entity in session.new]
    found += [("updated", entity) for entity in session.dirty if session.is_modified(entity)]
    return found + [("deleted", entity) for entity in session.deleted]


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
        event.listen(db.session, "after_flush", _log)
