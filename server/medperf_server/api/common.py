"""What the resources share: parsing, finding, paging."""

import json
import math
import re
from collections.abc import Callable, Sequence
from functools import cache, partial, wraps
from typing import Any, NoReturn
from urllib.parse import urlencode

import flask_smorest
from flask import abort, g, request
from marshmallow import Schema, fields
from sqlalchemy import ColumnElement, Select, func, select
from webargs.flaskparser import FlaskParser

from medperf_server.answers import not_kept
from medperf_server.base import Base, db
from medperf_server.config import DEFAULT_PAGE_SIZE, MAX_PAGE_BYTES
from medperf_server.kinds import going_with
from medperf_server.kinds.kind import Circle, Entity, Kind, Pair
from medperf_server.kinds.pairs import require_side_named
from medperf_server.policy import form, require_admin, require_owner, visible
from medperf_server.schemas import MAX_UID
from medperf_server.weights import bounded, weight

View = Callable[..., Any]
Wrapper = Callable[[View], View]
UID = f"int(max={MAX_UID})"
UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _storable(value: Any) -> bool:
    """Whether any engine can store it: no NUL, no lone surrogate, no infinite number."""
    if isinstance(value, dict):
        return all(_storable(k) and _storable(v) for k, v in value.items())
    if isinstance(value, list):
        return all(map(_storable, value))
    if isinstance(value, str):
        return not UNSTORABLE.search(value)
    return not isinstance(value, float) or math.isfinite(value)


class StrictParser(FlaskParser):
    """Webargs' parser: wrong input is 400, and JSON is RFC 8259's, without Python's extras."""

    DEFAULT_VALIDATION_STATUS = 400

    def load_json(self, req: Any, schema: Schema) -> Any:
        """The request's body, parsed.

        Raises `BadRequest` (400) if it is not, or holds what cannot be stored: NaN, infinity,
        NUL, lone surrogates.
        """
        try:
            value = json.loads(req.get_data(cache=True), parse_constant=_no_constant)
            if _storable(value):
                return value
            reason = "NUL, a lone surrogate or an infinite number"
        except (ValueError, RecursionError) as error:
            reason = str(error)
        abort(400, f"The body is not valid JSON: {reason}")


class Blueprint(flask_smorest.Blueprint):
    """flask-smorest's blueprint with our parser, described when somebody asks for that."""

    ARGUMENTS_PARSER = StrictParser()

    def register_views_in_doc(self, api: Any, *of: Any, **named: Any) -> None:
        """Have the API describe what is here once it is asked."""
        api.undescribed.append(partial(super().register_views_in_doc, api, *of, **named))


def find(kind: Kind[Entity], uid: int, lock: bool = False) -> Entity:
    """The entity with this UID, or 404 where the caller sees none.

    Locked until the transaction ends if it is to be changed.
    """
    table: Any = kind.table
    seen = select(table).where(table.id == uid, visible(g.caller, kind))
    if lock:
        # As it is once nobody else changes it, not as it was read before.
        seen = seen.with_for_update().execution_options(populate_existing=True)
    entity: Entity | None = db.session.scalar(seen)
    if entity is None:
        abort(404, "Not found.")
    return entity


def told(kind: Kind[Any], entity: Any) -> dict[str, Any]:
    """An entity on the wire, as the caller may learn of it."""
    schema = form(g.caller, kind, entity)
    if any(column.key in schema.fields for column in kind.quiet):
        not_kept()
    found: dict[str, Any] = schema.dump(entity)
    return found


def role_first(require: Callable[..., None]) -> Wrapper:
    """Have a view begin with a rule of policy, called with what the path names.

    Who lacks the role is told so whatever else is wrong with the request. Its body is here by
    then: nobody who sends it slowly shall hold a lock.
    """

    def decorate(view: View) -> View:
        @wraps(view)
        def guarded(*views: Any, **named: Any) -> Any:
            request.get_data(cache=True)
            require(**named)
            return view(*views, **named)

        return guarded

    return decorate


def of_owner(kind: Kind[Any]) -> Wrapper:
    """Have a view begin by asking for the owner of the entity that its path names, or an admin.

    `g.stands` is what the entity is on the wire, for who changes it.
    """

    def require(uid: int) -> None:
        entity = find(kind, uid)
        require_owner(g.caller, entity)
        if request.method == "PUT":
            g.stands = kind.schema.dump(entity)

    return role_first(require)


def of_side(pair: Pair[Any]) -> Wrapper:
    """Have a view begin by asking for the owner of a side that its body names, or an admin."""

    return role_first(lambda: require_side_named(g.caller, pair, _body()))


def named_in_body(field: str) -> Any:
    """What the body says in a field, which nobody has looked at; None if it says nothing."""
    body = _body()
    return body.get(field) if isinstance(body, dict) else None


def _body() -> Any:
    """What the body says, if it is JSON; that it is not is for others to refuse."""
    try:
        return json.loads(request.get_data(cache=True))
    except (ValueError, RecursionError):
        return None


def of_admins(view: View) -> View:
    """Have a view begin by asking for an admin, whatever its path names."""
    return role_first(lambda **_: require_admin(g.caller))(view)


@cache
def page_of(schema: type[Schema]) -> type[Schema]:
    """The schema of a page of `schema`."""
    return Schema.from_dict(
        {
            "count": fields.Integer(),
            "next": fields.String(allow_none=True),
            "previous": fields.String(allow_none=True),
            "results": fields.Nested(schema, many=True),
        },
        name=schema.__name__.removesuffix("Schema") + "Page",
    )


def _link(offset: int, limit: int) -> str:
    query = {**request.args.to_dict(), "limit": limit, "offset": offset}
    return f"{request.base_url}?{urlencode(query)}"


def page(found: Select[Any], order: Any, query: dict[str, Any]) -> dict[str, Any]:
    """One page of a select, in the form that lists have on the wire.

    Rows that the select does not order come by `order`. A page ends before its limit where its rows
    would be too much for one answer (see `weights`).
    """
    limit, offset = query["limit"], query["offset"]
    count, fits = _counted(found, order, limit, offset)
    results: Sequence[Any]
    if fits:
        rows = db.session.execute(found.order_by(order).limit(limit).offset(offset))
        results = (rows.scalars() if len(rows.keys()) == 1 else rows).all()
    else:
        results = bounded(found, order, limit, offset)
    end = offset + len(results)
    return {
        "count": count,
        "next": _link(end, limit) if results and end < count else None,
        "previous": _link(max(offset - limit, 0), limit) if offset > 0 else None,
        "results": results,
    }


def _counted(found: Select[Any], order: Any, limit: int, offset: int) -> tuple[int, bool]:
    """How many rows a select has, and whether an answer is known to hold those of a page.

    Of a page of the usual size one query tells both.
    """
    (first, *_) = found.column_descriptions
    model, connection = first["entity"], db.session.connection()
    counted = found.with_only_columns(func.count(), maintain_column_froms=True).order_by(None)
    row = weight(model) if first["expr"] is model else None
    if row is None or limit > DEFAULT_PAGE_SIZE:
        return connection.scalar(counted) or 0, row is None
    uids = found.with_only_columns(model.id).order_by(order).limit(limit).offset(offset)
    both = select(counted.scalar_subquery(), func.sum(row))
    count, total = connection.execute(both.where(model.__table__.c.id.in_(uids))).one()
    return count, (total or 0) <= MAX_PAGE_BYTES


def listed(kind: Kind[Any], query: dict[str, Any]) -> dict[str, Any]:
    """A page of a kind's entities that the caller may see, by UID.

    What else the query holds are filters on its columns.
    """
    filters = {k: v for k, v in query.items() if k not in ("limit", "offset")}
    seen = select(kind.table).where(visible(g.caller, kind)).filter_by(**filters)
    return page(seen, kind.table.id, query)


def add(entity: Entity) -> Entity:
    """Add what is new, and flush, so that the response shows what will be committed."""
    db.session.add(entity)
    db.session.flush()
    return entity


def update(entity: Base, values: dict[str, Any]) -> None:
    """Set the values and flush, so that the response shows what will be committed."""
    for field, value in values.items():
        setattr(entity, field, value)
    db.session.flush()


def remove(table: type[Base], *conditions: ColumnElement[bool]) -> int:
    """Delete the rows that meet all conditions; how many there were.

    One after the other: all at once they may be more than there is memory for.
    """
    uids = db.session.scalars(select(table.id).where(*conditions)).all()  # type: ignore[attr-defined]
    for uid in uids:
        db.session.delete(db.session.get_one(table, uid))
        db.session.flush()
    return len(uids)


def remove_entity(kind: Kind[Any], uid: int) -> None:
    """Delete an entity and what goes with it; what else refers to it refuses that."""
    entity = find(kind, uid)
    # One after the other, so that the change log still knows whom to tell.
    for table, column in going_with(kind):
        remove(table, column == uid)
    if isinstance(kind.sight, Circle):
        for row in db.session.scalars(select(kind.sight.table).where(kind.sight.thing == uid)):
            db.session.delete(row)
        db.session.flush()
    db.session.delete(entity)
