"""What the resources share: parsing, finding, paging."""

import json
import math
import re
from collections.abc import Callable, Sequence
from functools import cache, wraps
from typing import Any, NoReturn, TypeVar
from urllib.parse import urlencode

import flask_smorest
from flask import abort, g, request
from marshmallow import Schema, fields
from sqlalchemy import ColumnElement, Select, func, select
from webargs.flaskparser import FlaskParser

from medperf_server.config import DEFAULT_PAGE_SIZE, MAX_PAGE_BYTES
from medperf_server.models import Base, Benchmark, Container, db
from medperf_server.policy import require_admin, require_owner, visible
from medperf_server.schemas import MAX_UID
from medperf_server.weights import bounded, weight

View = Callable[..., Any]
Entity = TypeVar("Entity", bound=Base)
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
    """flask-smorest's blueprint with our parser."""

    ARGUMENTS_PARSER = StrictParser()


def find(model: type[Entity], uid: int, lock: bool = False) -> Entity:
    """The entity with this UID, or 404 where the caller sees none.

    Locked until the transaction ends if it is to be changed.
    """
    seen = select(model).where(model.id == uid, visible(g.caller, model))  # type: ignore[attr-defined]
    if lock:
        # As it is once nobody else changes it, not as it was read before.
        seen = seen.with_for_update().execution_options(populate_existing=True)
    entity = db.session.scalar(seen)
    if entity is None:
        abort(404, "Not found.")
    return entity


def role_first(require: Callable[..., None]) -> Callable[[View], View]:
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


def of_owner(model: type[Container] | type[Benchmark]) -> Callable[[View], View]:
    """Have a view begin by asking for the owner of the entity that its path names, or an admin."""
    return role_first(lambda uid: require_owner(g.caller, find(model, uid)))


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

    It ends before its limit where its rows would be too much for one answer (see `weights`).
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
    counted = found.with_only_columns(func.count(), maintain_column_froms=True)
    row = weight(model) if first["expr"] is model else None
    if row is None or limit > DEFAULT_PAGE_SIZE:
        return connection.scalar(counted) or 0, row is None
    uids = found.with_only_columns(model.id).order_by(order).limit(limit).offset(offset)
    both = select(counted.scalar_subquery(), func.sum(row))
    count, total = connection.execute(both.where(model.__table__.c.id.in_(uids))).one()
    return count, (total or 0) <= MAX_PAGE_BYTES


def listed(model: type[Base], query: dict[str, Any]) -> dict[str, Any]:
    """A page of a model's rows that the caller may see, by UID.

    What else the query holds are filters on its columns.
    """
    filters = {k: v for k, v in query.items() if k not in ("limit", "offset")}
    seen = select(model).where(visible(g.caller, model)).filter_by(**filters)
    return page(seen, model.id, query)  # type: ignore[attr-defined]


def remove(model: type[Base], *conditions: ColumnElement[bool]) -> int:
    """Delete the rows that meet all conditions; how many there were.

    One after the other: all at once they may be more than there is memory for.
    """
    uids = db.session.scalars(select(model.id).where(*conditions)).all()  # type: ignore[attr-defined]
    for uid in uids:
        db.session.delete(db.session.get_one(model, uid))
        db.session.flush()
    return len(uids)


def update(entity: Base, values: dict[str, Any]) -> None:
    """Set the values and flush, so that the response shows what will be committed."""
    for field, value in values.items():
        setattr(entity, field, value)
    db.session.flush()
