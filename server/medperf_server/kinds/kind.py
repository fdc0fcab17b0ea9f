"""What a kind of entity is, told once: whatever serves all kinds reads it from here.

Who may see an entity is said twice, in one place: to the database, for lists and look-ups
(`seen_by`), and of one entity, for the change log, which outlives it (`viewers`). Admins see all.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any, Generic, TypeVar

from marshmallow import Schema
from sqlalchemy import ColumnElement, and_, or_, select, true
from sqlalchemy.orm import Session

from medperf_server.base import Base

Entity = TypeVar("Entity", bound=Base)
# An attribute of a table's class, such as `Benchmark.owner`.
Column = Any


@dataclass(frozen=True)
class Own:
    """Each is shown to one member only, whom a column names."""

    member: Column

    def seen_by(self, member: int) -> ColumnElement[bool]:
        """Which rows a member may see."""
        shown: ColumnElement[bool] = self.member == member
        return shown

    def viewers(self, session: Session, entity: Any) -> set[int] | None:
        """Who may see an entity."""
        return {getattr(entity, self.member.key)}


@dataclass(frozen=True)
class Circle:
    """Those that are private are shown to their owner, and to whom a table of its own names."""

    private: Column
    owner: Column
    # Of the table that names them: which entity, and who.
    thing: Column
    member: Column

    @property
    def table(self) -> type[Base]:
        """The table that names who is invited."""
        invited: type[Base] = self.member.class_
        return invited

    def seen_by(self, member: int) -> ColumnElement[bool]:
        """Which rows a member may see."""
        invited = select(self.thing).where(self.member == member)
        uid = self.owner.class_.id
        return or_(~self.private, self.owner == member, uid.in_(invited))

    def viewers(self, session: Session, entity: Any) -> set[int] | None:
        """Who may see an entity; None for everyone."""
        if not getattr(entity, self.private.key):
            return None
        invited = select(self.member).where(self.thing == entity.id)
        return {getattr(entity, self.owner.key), *session.scalars(invited)}


@dataclass(frozen=True)
class Parties:
    """Each is told to the owners of what it refers to, as far as they may see all of that."""

    sides: tuple[Side, ...]

    def owned_by(self, member: int) -> ColumnElement[bool]:
        """Which rows refer to something of a member's."""
        return or_(*(side.owned_by(member) for side in self.sides))

    def seen_by(self, member: int) -> ColumnElement[bool]:
        """Which rows a member may see: not those that refer to what is hidden from them."""
        hiding = (side for side in self.sides if side.kind.sight)
        shown = (
            side.column.in_(select(side.kind.table.id).where(side.kind.seen_by(member)))
            for side in hiding
        )
        return and_(self.owned_by(member), *shown)

    def viewers(self, session: Session, entity: Any) -> set[int] | None:
        """Who may see an entity."""
        found = [(side, side.of(session, entity)) for side in self.sides]
        owners = {one.owner for _, one in found if one}
        for side, one in found:
            viewers = side.kind.viewers(session, one) if one else None
            owners &= owners if viewers is None else viewers
        return owners


@dataclass(frozen=True, eq=False)
class Kind(Generic[Entity]):
    """A kind of entity."""

    # On the wire and in the logs; for people.
    name: str
    title: str
    table: type[Entity]
    # How it is told of on the wire.
    schema: Schema
    # To whom it is shown; None for everyone.
    sight: Own | Circle | Parties | None = None
    # How others than its owner and admins are told of it; None for as they are.
    public: Schema | None = None
    # What changes every few seconds, and is news to nobody: for whoever asks to look up.
    quiet: tuple[Column, ...] = ()
    # What of it may be the SHA-256 of a file that members keep here.
    files: tuple[Column, ...] = ()

    @property
    def is_decided(self) -> bool:
        """Whether somebody approves or rejects it."""
        return "approval_status" in self.table.__table__.columns

    def part(self, name: str) -> ModuleType | None:
        """A module of the kind's folder, where its table is; None if it has no such module."""
        path = f"{self.table.__module__.rpartition('.')[0]}.{name}"
        return import_module(path) if find_spec(path) else None

    def seen_by(self, member: int) -> ColumnElement[bool]:
        """Which rows a member may see who is no admin."""
        return self.sight.seen_by(member) if self.sight else true()

    def viewers(self, session: Session, entity: Any) -> set[int] | None:
        """Who may see an entity, besides admins; None for everyone."""
        return self.sight.viewers(session, entity) if self.sight else None


@dataclass(frozen=True)
class Side:
    """One of those that an entity brings together: the column that refers to it, and its kind."""

    column: Column
    kind: Kind[Any]
    # What it is called there, which may be another word than its kind's.
    title: str

    def of(self, session: Session, entity: Any) -> Any:
        """What an entity refers to on this side; None if it is gone."""
        return session.get(self.kind.table, getattr(entity, self.column.key))

    def owned_by(self, member: int | Column) -> ColumnElement[bool]:
        """Which rows have something of a member's on this side."""
        table: Any = self.kind.table
        owned: ColumnElement[bool] = self.column.in_(select(table.id).where(table.owner == member))
        return owned


@dataclass(frozen=True, eq=False, kw_only=True)
class Pair(Kind[Entity]):
    """A kind that brings two entities together, by request and decision: the newest one counts.

    It is told to the owners of both sides, as far as they may see the other.
    """

    sides: tuple[Side, Side]

    def __post_init__(self) -> None:
        object.__setattr__(self, "sight", Parties(self.sides))

    def owned_by(self, member: int) -> ColumnElement[bool]:
        """Which rows have something of a member's on either side."""
        return Parties(self.sides).owned_by(member)
