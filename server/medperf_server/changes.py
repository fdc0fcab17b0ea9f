"""The append-only change log behind `GET /changes/`.

Cursors are allotted by updating a one-row counter: the row lock is held until commit, so cursors
become visible in the order they were given and a reader never skips one (a plain sequence lets a
later number commit first).
"""

from collections.abc import Iterable

from sqlalchemy import event, insert, inspect, select, update
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


def _audience(session: Session, entity: Base) -> str | None:
    """The user IDs that may see the change as `,1,2,`; None for everyone."""
    members: Iterable[int | None]
    if isinstance(entity, User):
        members = [entity.id]
    elif isinstance(entity, Association):
        container = session.get(Container, entity.model_mlcube)
        benchmark = session.get(Benchmark, entity.benchmark)
        members = [container and container.owner, benchmark and benchmark.owner]
    elif isinstance(entity, BenchmarkMember):
        members = [entity.user_id]
    elif isinstance(entity, Benchmark) and entity.is_private and not _was_public(entity):
        invited = select(BenchmarkMember.user_id).filter_by(benchmark=entity.id)
        members = [entity.owner, *session.scalars(invited)]
    else:
        return None
    return "," + ",".join(str(m) for m in sorted({m for m in members if m})) + ","


def _was_public(benchmark: Benchmark) -> bool:
    """Whether it is only now that it becomes private: everyone has to forget it then."""
    return False in inspect(benchmark).attrs.is_private.history.deleted


def _next_cursor(session: Session) -> int:
    return session.execute(
        update(ChangeCounter)
        .where(ChangeCounter.id == 1)
        .values(value=ChangeCounter.value + 1)
        .returning(ChangeCounter.value)
        .execution_options(synchronize_session=False)
    ).scalar_one()


def _log(session: Session, _: UOWTransaction) -> None:
    touched = [("created", entity) for entity in session.new]
    touched += [("updated", entity) for entity in session.dirty if session.is_modified(entity)]
    touched += [("deleted", entity) for entity in session.deleted]
    for action, entity in touched:
        if isinstance(entity, BenchmarkMember):
            # For that member the benchmark comes, or goes.
            kind, uid, action = "benchmark", entity.benchmark, "updated"
        elif type(entity) in ENTITY_TYPES:
            kind, uid = ENTITY_TYPES[type(entity)], entity.id
        else:
            continue
        with session.no_autoflush:
            session.execute(
                insert(Change).values(
                    cursor=_next_cursor(session),
                    entity_type=kind,
                    entity_id=uid,
                    action=action,
                    audience=_audience(session, entity),
                    created_at=utc_now(),
                )
            )


def init_app() -> None:
    """Log every flush of an entity, in the transaction that writes it."""
    if not event.contains(db.session, "after_flush", _log):
        event.listen(db.session, "after_flush", _log)
