"""How much of what members wrote one answer holds: so many bytes, and one row whatever it has.

Rows are weighed where they lie, by the lengths of their JSON and their free text, and only those
that an answer holds are loaded.
"""

from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any, TypeVar

from sqlalchemy import JSON, ColumnElement, Integer, Select, Text, literal_column, select
from sqlalchemy.orm import defer
from sqlalchemy.orm.interfaces import ORMOption

from medperf_server.base import Base, db
from medperf_server.config import MAX_PAGE_BYTES

FIRST_ROWS, GROWTH = 32, 8
Thing = TypeVar("Thing")


@cache
def weight(model: type[Any]) -> ColumnElement[int] | None:
    """How long the JSON and the free text of a row are, in characters; None if there is neither.

    In SQL, for SQLAlchemy would take longer to build it than an engine to read the row.
    """
    lengths = [
        f"coalesce(length(CAST({column} AS TEXT)), 0)"
        for column in model.__table__.columns
        if isinstance(column.type, (JSON, Text))
    ]
    return literal_column(" + ".join(lengths), Integer) if lengths else None


def slices(count: int) -> Iterator[tuple[int, int]]:
    """Where to cut so many rows that are weighed in turn: those that come after what an answer
    holds are not looked at."""
    start, size = 0, FIRST_ROWS
    while start < count:
        yield start, min(start + size, count)
        start, size = start + size, size * GROWTH


def weighed(
    found: Select[Any], order: Any, limit: int, offset: int = 0
) -> Iterator[tuple[int, int]]:
    """UID and weight of entities that a statement selects, which are looked up as one goes on.

    Only of those: of what it passes over, and what it sorts, no engine reads more than the index.
    """
    model = found.column_descriptions[0]["entity"]
    uids = found.with_only_columns(model.id).order_by(order)
    uid = model.__table__.c.id
    columns: list[Any] = [uid, weight(model)]
    for start, end in slices(limit):
        some = uids.limit(end - start).offset(offset + start)
        rows = select(*columns).where(uid.in_(some)).order_by(order)
        yield from (tuple(row) for row in db.session.connection().execute(rows).all())


def fitting(things: Iterable[tuple[Thing, int]]) -> list[Thing]:
    """Of things with their weights the first ones, as many as an answer holds."""
    held: list[Thing] = []
    total = 0
    for thing, size in things:
        total += size
        if held and total > MAX_PAGE_BYTES:
            break
        held.append(thing)
    return held


def bounded(found: Select[Any], order: Any, limit: int, offset: int = 0) -> list[Any]:
    """The first entities that a statement selects, as many as an answer holds."""
    model = found.column_descriptions[0]["entity"]
    uids = fitting(weighed(found, order, limit, offset))
    return list(db.session.scalars(select(model).where(model.id.in_(uids)).order_by(order)))


def without_json(model: type[Base]) -> list[ORMOption]:
    """What leaves the JSON of a model's rows in the database, where it is not shown."""
    return [
        defer(getattr(model, attribute.key), raiseload=True)
        for attribute in model.__mapper__.column_attrs
        if isinstance(attribute.columns[0].type, JSON)
    ]
