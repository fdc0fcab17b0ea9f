"""How much of what members wrote one answer holds: so many bytes, and one row whatever it has.

Rows are weighed where they lie, by the lengths of their JSON and their free text, and only those
that an answer holds are loaded.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from sqlalchemy import JSON, ColumnElement, Select, Text, cast, func
from sqlalchemy.orm import defer
from sqlalchemy.orm.interfaces import ORMOption

from medperf_server.config import MAX_PAGE_BYTES
from medperf_server.models import Base, db

FIRST_ROWS, GROWTH = 4, 8


def weight(columns: Iterable[ColumnElement[Any]]) -> ColumnElement[int] | None:
    """How long the JSON and the free text of a row are, in characters; None if there is neither."""
    lengths = (
        func.coalesce(func.length(cast(column, Text)), 0)
        for column in columns
        if isinstance(column.type, (JSON, Text))
    )
    total: ColumnElement[int] | None = None
    for length in lengths:
        total = length if total is None else total + length
    return total


def part(statement: Select[Any], limit: int, offset: int = 0) -> Select[Any]:
    """Some of the rows that a statement selects.

    Entities are looked up once it is known which: no engine reads those that it passes over.
    """
    (*_, last) = statement.column_descriptions
    model = last["entity"]
    if last["expr"] is not model or weight(statement.selected_columns) is None:
        return statement.limit(limit).offset(offset)
    uids = statement.with_only_columns(model.id).limit(limit).offset(offset)
    return statement.where(model.id.in_(uids))


def weights_of(rows: Select[Any]) -> Select[tuple[int]] | None:
    """A select of the weights of some rows; None if they have nothing to weigh."""
    found = weight(rows.selected_columns)
    return None if found is None else rows.with_only_columns(found.label("weight"))


def slices(count: int) -> Iterator[tuple[int, int]]:
    """Where to cut so many rows that are weighed in turn: it is mostly the first that are heavy,
    and what an answer does not hold need not be read."""
    start, size = 0, FIRST_ROWS
    while start < count:
        yield start, min(start + size, count)
        start, size = start + size, size * GROWTH


def weigh(statement: Select[Any], limit: int, offset: int = 0) -> Iterator[int]:
    """The weights of a page's rows, which are looked up as they are asked for."""
    for start, end in slices(limit):
        rows = weights_of(part(statement, end - start, offset + start))
        assert rows is not None
        yield from (row.weight for row in db.session.execute(rows).all())


def fitting(weights: Iterable[int]) -> int:
    """How many of the rows with these weights an answer holds."""
    held = total = 0
    for one in weights:
        total += one
        if held and total > MAX_PAGE_BYTES:
            break
        held += 1
    return held


def bounded(statement: Select[Any], most: int) -> list[Any]:
    """The first rows that a statement selects, as many as an answer holds."""
    fit = fitting(weigh(statement, most))
    return list(db.session.scalars(part(statement, fit)))


def without_json(model: type[Base]) -> list[ORMOption]:
    """What leaves the JSON of a model's rows in the database, where it is not shown."""
    return [
        defer(getattr(model, attribute.key), raiseload=True)
        for attribute in model.__mapper__.column_attrs
        if isinstance(attribute.columns[0].type, JSON)
    ]
