"""What every rule is made of: roles, what the caller may see, words of refusal.

The rules of a kind are in its folder. They return nothing when they hold, raise `Forbidden` (403)
when the caller lacks the role and `ValidationError` (400, marshmallow's) when a rule of state or
content is broken.
"""

from typing import Any, NoReturn

from marshmallow import Schema, ValidationError
from sqlalchemy import ColumnElement, or_, select, true
from werkzeug.exceptions import Forbidden

from medperf_server.base import alike, db
from medperf_server.callers import Caller
from medperf_server.kinds import KINDS
from medperf_server.kinds.kind import Kind

Values = dict[str, Any]

IN_OPERATION = "the state is OPERATION"


def refuse(message: str, field: str = "non_field_errors") -> NoReturn:
    """Refuse what breaks a rule of state or content, for a reason."""
    raise ValidationError({field: [message]})


def require(allowed: bool) -> None:
    """Refuse whoever lacks the role."""
    if not allowed:
        raise Forbidden("You do not have permission to perform this action.")


def owns(caller: Caller, entity: Any) -> bool:
    """Whether an entity is the caller's, as all are to admins."""
    return bool(caller.is_admin or entity.owner == caller.id)


def form(caller: Caller, kind: Kind[Any], entity: Any) -> Schema:
    """How an entity is told of to the caller: with all it has, or as the public learns of it."""
    return kind.schema if kind.public is None or owns(caller, entity) else kind.public


def require_admin(caller: Caller) -> None:
    """Admins only."""
    require(caller.is_admin)


def require_owner(caller: Caller, entity: Any) -> None:
    """The entity's owner, and admins."""
    require(owns(caller, entity))


def visible(caller: Caller, kind: Kind[Any]) -> ColumnElement[bool]:
    """Which rows of a kind's table the caller may see."""
    return true() if caller.is_admin else kind.seen_by(caller.id)


def unique_name(kind: Kind[Any], values: Values, own: int | None) -> None:
    """Entities of a kind have a name each; `own` is the UID of the one that is changed."""
    if "name" not in values:
        return
    table = kind.table
    taken = db.session.scalar(select(table.id).where(table.name == values["name"]))
    if taken is not None and taken != own:
        # Not by whom: it may be private.
        refuse(f"The name {values['name']!r} is taken", "name")


def only_fields(entity: Any, values: Values, allowed: set[str], since: str) -> None:
    """Of an entity that is settled no other fields change."""
    for field, value in values.items():
        if field not in allowed and not alike(getattr(entity, field), value):
            refuse(f"cannot be changed once {since}", field.rstrip("_"))


def check_asset_unused(sha256: str) -> None:
    """A file that something in the registry needs stays."""
    for kind in KINDS:
        if not kind.files:
            continue
        needs = or_(*(column == sha256 for column in kind.files))
        uid = db.session.scalar(select(kind.table.id).where(needs).limit(1))
        if uid is not None:
            # Not which, if it may be private.
            which = f"A {kind.title}" if kind.sight else f"{kind.title.capitalize()} {uid}"
            refuse(f"{which} needs the file {sha256}, and nobody else holds it", "sha256")
