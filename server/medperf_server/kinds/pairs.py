"""What holds for every pair: who may ask for one, what may follow what, who decides.

The first side asks to join the second; both have an `owner` and a `state`. The pair's table has
`initiated_by`, `approval_status` and `approved_at`.
"""

from collections.abc import Collection
from typing import Any

from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlalchemy.orm import Session

from medperf_server.base import APPROVED, OPERATION, PENDING, REJECTED, db, utc_now
from medperf_server.callers import Caller
from medperf_server.kinds.kind import Entity, Pair, Side
from medperf_server.policy import Values, owns, refuse, require, require_owner, visible
from medperf_server.schemas import is_uid


def between(pair: Pair[Any], first: int, second: int) -> ColumnElement[bool]:
    """Which rows bring these two together."""
    uids = zip(pair.sides, (first, second), strict=True)
    return and_(*(side.column == uid for side, uid in uids))


def newest(pair: Pair[Entity], first: int, second: int) -> Entity | None:
    """The newest between two as it is now, locked until the transaction ends."""
    table: Any = pair.table
    found: Entity | None = db.session.scalar(
        select(table)
        .where(between(pair, first, second))
        .order_by(table.id.desc())
        .limit(1)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    return found


def own(caller: Caller, pair: Pair[Any]) -> ColumnElement[bool]:
    """Those with something of the caller's on either side."""
    return pair.owned_by(caller.id) if caller.is_admin else pair.seen_by(caller.id)


def awaiting(caller: Caller, pair: Pair[Any]) -> tuple[ColumnElement[bool], ...]:
    """Those that the caller has to decide, among them what they asked themselves for both sides."""
    table = pair.table
    alone = and_(*(side.owned_by(caller.id) for side in pair.sides))
    asked = or_(table.initiated_by != caller.id, alone)
    return table.approval_status == PENDING, asked, own(caller, pair)


def takes_part(caller: Caller, pair: Pair[Any], joined: int) -> bool:
    """Whether something of the caller's on the first side is in what they join: the newest between
    the two is APPROVED."""
    table: Any = pair.table
    first, second = (side.column for side in pair.sides)
    newest = select(func.max(table.id)).where(second == joined, pair.sides[0].owned_by(caller.id))
    approved = select(table.id).where(table.approval_status == APPROVED)
    found = approved.where(table.id.in_(newest.group_by(first))).limit(1)
    return db.session.scalar(found) is not None


def owners_in(
    session: Session, pair: Pair[Any], joined: int, statuses: Collection[str] = (APPROVED,)
) -> set[int]:
    """Who owns what is in something: the newest between the two has one of these statuses."""
    table: Any = pair.table
    first, second = (side.column for side in pair.sides)
    joining: Any = pair.sides[0].kind.table
    newest = select(func.max(table.id)).where(second == joined).group_by(first)
    found = select(joining.owner).join(table, first == joining.id).distinct()
    found = found.where(table.id.in_(newest), table.approval_status.in_(statuses))
    return set(session.scalars(found))


def require_side(caller: Caller, *sides: Any) -> None:
    """The owner of either side, and admins."""
    require(any(owns(caller, entity) for entity in sides))


def require_side_named(caller: Caller, pair: Pair[Any], body: Any) -> None:
    """The owner of either side that the body of a request names, and admins.

    Whoever names nothing of theirs is not told what else is wrong with it.
    """
    named = body if isinstance(body, dict) else {}
    sides = [(side, named.get(side.column.key)) for side in pair.sides]
    found = (db.session.get(side.kind.table, uid) for side, uid in sides if is_uid(uid))
    require(caller.is_admin or any(owns(caller, entity) for entity in found if entity))


def check_request(caller: Caller, pair: Pair[Any], values: Values) -> None:
    """Rules for a new one; sets when it was decided, if it comes decided.

    What one member asks for both sides is APPROVED at once.
    Two requests for the same second side at once meet at its row's lock.
    """
    first, second = pair.sides
    found = [(side, _side(caller, side, values, lock=side is second)) for side in pair.sides]
    for side, entity in found:
        if entity is None:
            uid = values[side.column.key]
            refuse(f"There is no {side.kind.title} with UID {uid}", side.column.key)
    joining, joined = (entity for _, entity in found)
    require_side(caller, joining, joined)
    for side, entity in reversed(found):
        _check_settled(side, entity)
    last = newest(pair, joining.id, joined.id)
    wanted = values.get("approval_status", PENDING)
    if last is None or last.approval_status == REJECTED:
        if wanted != PENDING:
            refuse("a new association starts as PENDING", "approval_status")
    elif last.approval_status == PENDING:
        refuse(f"a PENDING association of this {first.title} and {second.title} exists")
    elif wanted != REJECTED:
        refuse("after an APPROVED association only a REJECTED one may follow", "approval_status")
    if wanted == PENDING and joining.owner == joined.owner:
        # Nobody is left to ask.
        values["approval_status"] = wanted = APPROVED
    if wanted != PENDING:
        values["approved_at"] = utc_now()


def _side(caller: Caller, side: Side, values: Values, lock: bool) -> Any:
    """The entity that a request names, as far as the caller may see it."""
    table = side.kind.table
    uid = values[side.column.key]
    seen = select(table).where(table.id == uid, visible(caller, side.kind))
    return db.session.scalar(seen.with_for_update() if lock else seen)


def _check_settled(side: Side, entity: Any) -> None:
    """Only what is approved, where it takes that, and cannot change any more is paired."""
    what = f"{side.kind.title.capitalize()} {entity.id}"
    if side.kind.is_decided and entity.approval_status != APPROVED:
        refuse(f"{what} is {entity.approval_status}, not APPROVED", side.column.key)
    if entity.state != OPERATION:
        refuse(f"{what} is not in OPERATION", side.column.key)


def check_decision(caller: Caller, pair: Pair[Any], entity: Any, values: Values) -> None:
    """Rules for deciding the newest between two, or setting its priority.

    `id` in the values is the UID of the one that was meant.
    """
    first, second = pair.sides
    joining, joined = (side.of(db.session(), entity) for side in pair.sides)
    require_side(caller, joining, joined)
    if (meant := values.pop("id", entity.id)) != entity.id:
        newest = f"the newest of this {first.title} and this {second.title} is {entity.id}"
        refuse(f"request {meant} is not up for a decision: {newest}; look at that one", "id")
    if "priority" in values and values["priority"] != entity.priority:
        require_owner(caller, joined)
    if "approval_status" not in values:
        if "reason" in values:
            refuse("a reason goes with a decision: give approval_status too", "reason")
        return
    wanted = values["approval_status"]
    if entity.approval_status != PENDING:
        refuse(f"this association is {entity.approval_status} already", "approval_status")
    # Older registries left PENDING what one member asked for both sides.
    alone = joining.owner == joined.owner
    if wanted == APPROVED and entity.initiated_by == caller.id and not alone:
        refuse("you cannot approve an association that you requested", "approval_status")
    if wanted != PENDING:
        values["approved_at"] = utc_now()
