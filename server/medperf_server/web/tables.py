"""Tables of entities: searched, sorted and paged by the database."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from flask import g, request, url_for
from sqlalchemy import ColumnElement, SQLColumnExpression, false, func, or_, select
from sqlalchemy.orm import InstrumentedAttribute

from medperf_server.base import db
from medperf_server.kinds.kind import Kind
from medperf_server.models import AuditEntry
from medperf_server.policy import visible
from medperf_server.web.numbers import whole
from medperf_server.weights import bounded, without_json

ROWS = 25
HISTORY = 50
# The largest number of a page that is understood; it leads to the last one.
FARTHEST = 10**18


@dataclass(frozen=True)
class Page:
    """One page of a table: its rows, and where the others are."""

    rows: Sequence[Any]
    count: int
    number: int
    pages: int
    sort: str
    descending: bool
    search: str

    def link(self, **changes: Any) -> str:
        """The address of the same table, but for what is given."""
        query = {**request.args.to_dict(), **changes}
        kept = {name: value for name, value in query.items() if value not in ("", None)}
        # Not by `url_for`, which takes some names for its own arguments, `_external` for one.
        return f"{url_for(request.endpoint or '')}?{urlencode(kept)}"

    def sorted_by(self, name: str) -> str:
        """The address of the table sorted by a column; the other way round if it is already."""
        turned = "asc" if self.sort == name and self.descending else "desc"
        first = "asc" if self.sort != name else turned
        return self.link(sort=name, order=first, page=None)

    def direction(self, name: str) -> str:
        """The value of `aria-sort` of a column's header."""
        if self.sort != name:
            return "none"
        return "descending" if self.descending else "ascending"


def newest(model: type[Any], most: int, *conditions: ColumnElement[bool]) -> list[Any]:
    """The rows that meet all conditions, without their JSON, the newest first; so many at most."""
    found = select(model).where(*conditions).order_by(model.id.desc()).limit(most)
    return list(db.session.scalars(found.options(*without_json(model))))


def history(kind: Kind[Any], uid: int) -> list[AuditEntry]:
    """What was done to an entity, the newest first."""
    found = select(AuditEntry).filter_by(entity_type=kind.name, entity_id=str(uid))
    return bounded(found, AuditEntry.id.desc(), HISTORY)


def entities(
    kind: Kind[Any],
    sorts: Mapping[str, Any],
    searched: Sequence[SQLColumnExpression[Any]],
    filters: Sequence[str],
) -> Page:
    """The page of the entities of a kind that the caller may see.

    They can be sorted by UID, name and time, besides what `sorts` says; see `page_of`.
    """
    table = kind.table
    common = {"id": table.id, "name": table.name, "created": table.created_at}
    return page_of(table, visible(g.caller, kind), {**common, **sorts}, searched, filters)


def page_of(
    model: type[Any],
    shown: ColumnElement[bool],
    sorts: Mapping[str, Any],
    searched: Sequence[SQLColumnExpression[Any]] = (),
    filters: Sequence[str] = (),
    default: str = "id",
) -> Page:
    """The page that the request's query asks for: `q`, `sort`, `order`, `page`, and filters.

    `shown` says which rows the caller may see, `sorts` what can be sorted by, `filters` names
    columns that the query may ask a value of. What the query has wrong counts as not said.
    """
    args = request.args
    search = "".join(filter(str.isprintable, args.get("q", ""))).strip()[:100]
    conditions = [shown]
    if search:
        conditions.append(or_(*(column.icontains(search, autoescape=True) for column in searched)))
    for name in filters:
        if value := args.get(name, ""):
            conditions.append(_equals(getattr(model, name), value))
    sort = args.get("sort", default)
    sort = sort if sort in sorts else default
    descending = args.get("order", "desc" if sort == default else "asc") == "desc"
    count = db.session.scalar(select(func.count(model.id)).where(*conditions)) or 0
    pages = max(1, -(-count // ROWS))
    number = min(max(whole(args.get("page", ""), FARTHEST) or 1, 1), pages)
    key = sorts[sort]
    order = [key.desc() if descending else key.asc(), model.id.desc()]
    # Rows are looked up once it is known which: what is passed over costs an index entry each.
    uids = select(model.id).where(*conditions).order_by(*order)
    uids = uids.limit(ROWS).offset((number - 1) * ROWS)
    found = select(model).where(model.id.in_(uids)).order_by(*order)
    # Of JSON tables show only what the audit log has, which is short.
    shown_of = () if model is AuditEntry else without_json(model)
    rows = db.session.scalars(found.options(*shown_of)).all()
    return Page(rows, count, number, pages, sort, descending, search)


def _equals(column: InstrumentedAttribute[Any], value: str) -> ColumnElement[bool]:
    """That a column has a value from a query; what is no value of its kind finds nothing."""
    if column.type.python_type is not int:
        return column == value if value.isprintable() else false()
    number = whole(value)
    return false() if number is None else column == number
