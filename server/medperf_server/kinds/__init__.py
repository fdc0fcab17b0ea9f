"""What the registry keeps for its members: one folder a kind, and a line in the list of them.

A folder has the kind's table, its form and its rules; `resource`, whose `blueprints` are its part
of the API; and, where there is something of the sort, `pages` for people, `checks`, whose
`findings` tell what is wrong with an installation, and `notices`: the EVENTS that members choose to
be mailed of, and `told`, which says who is told of a change.
"""

from collections.abc import Iterator
from itertools import permutations
from typing import Any

from sqlalchemy import ColumnElement, Select, false, or_, select

from medperf_server.base import Base
from medperf_server.kinds.association import ASSOCIATION
from medperf_server.kinds.benchmark import BENCHMARK
from medperf_server.kinds.container import CONTAINER
from medperf_server.kinds.dataset import DATASET
from medperf_server.kinds.dataset_association import DATASET_ASSOCIATION
from medperf_server.kinds.key import KEY
from medperf_server.kinds.kind import Circle, Kind, Parties, Side
from medperf_server.kinds.result import RESULT
from medperf_server.kinds.user import USER

# Each after those that it refers to.
KINDS: list[Kind[Any]] = [
    USER,
    KEY,
    CONTAINER,
    BENCHMARK,
    ASSOCIATION,
    DATASET,
    DATASET_ASSOCIATION,
    RESULT,
]


def kind_of(table: type[Any]) -> Kind[Any] | None:
    """The kind whose table this is."""
    return next((kind for kind in KINDS if kind.table is table), None)


def circles() -> Iterator[tuple[Kind[Any], Circle]]:
    """The kinds that may be private, each with its circle."""
    for kind in KINDS:
        if isinstance(kind.sight, Circle):
            yield kind, kind.sight


def joining(kind: Kind[Any]) -> Iterator[tuple[Kind[Any], Side, Side]]:
    """The kinds that bring a kind together with others: each with its side and every other one."""
    for joint in KINDS:
        sides = joint.sight.sides if isinstance(joint.sight, Parties) else ()
        for side, other in permutations(sides, 2):
            if side.kind is kind:
                yield joint, side, other


def going_with(kind: Kind[Any]) -> Iterator[tuple[type[Base], Any]]:
    """What the database deletes with an entity of a kind: tables, and their columns that refer
    to it. What else refers to it keeps it from being deleted."""
    for other in KINDS:
        for column in other.table.__table__.columns:
            for key in column.foreign_keys:
                if key.column.table is kind.table.__table__ and key.ondelete == "CASCADE":
                    yield other.table, column


def not_of_private_alone(kind: Kind[Any]) -> ColumnElement[bool]:
    """Which rows of a kind are neither private, nor used by what is private and by nothing else."""
    if isinstance(kind.sight, Circle):
        return ~kind.sight.private
    if kind.sight is not None:
        return false()
    uses = list(_uses(kind))
    hidden = or_(false(), *(use.where(private).exists() for use, private in uses))
    known = or_(false(), *(use.where(~private).exists() for use, private in uses))
    return or_(~hidden, known)


def _uses(kind: Kind[Any]) -> Iterator[tuple[Select[Any], Any]]:
    """What uses a row of a kind and may be private: what refers to it, or is joined with it; each
    with the column that says whether it is."""
    uid = kind.table.id
    for other, circle in circles():
        columns = other.table.__table__.columns
        referring = [one for one in columns if one.references(kind.table.__table__.c.id)]
        if referring:
            refers = or_(*(column == uid for column in referring))
            yield select(other.table.id).where(refers), circle.private
    for joint, side, opposite in joining(kind):
        if isinstance(opposite.kind.sight, Circle):
            joined = (side.column == uid, opposite.column == opposite.kind.table.id)
            yield select(joint.table.id).where(*joined), opposite.kind.sight.private
