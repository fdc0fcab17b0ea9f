"""What may become of members."""

from sqlalchemy import select

from medperf_server.base import db, folded
from medperf_server.callers import Caller
from medperf_server.kinds.container.table import Container
from medperf_server.kinds.dataset.table import Dataset
from medperf_server.kinds.user.table import User
from medperf_server.policy import Values, refuse, require, require_admin


def require_acquaintance(caller: Caller, uid: int) -> None:
    """A member themselves, whose container prepares data of theirs, and admins."""
    prepared = (
        select(Dataset.id)
        .join(Container, Container.id == Dataset.data_preparation_mlcube)
        .where(Dataset.owner == uid, Container.owner == caller.id)
    )
    myself = caller.is_admin or caller.id == uid
    require(myself or db.session.scalar(prepared.limit(1)) is not None)


def check_user(values: Values, entity: User) -> None:
    """Names and addresses, in whatever case, belong to one member each."""
    for field in ("username", "email"):
        if field not in values:
            continue
        same = getattr(User, f"{field}_key") == folded(values[field])
        if db.session.scalar(select(User.id).where(same, User.id != entity.id)) is not None:
            refuse(f"{values[field]!r} belongs to another member", field)


def check_user_removal(caller: Caller, uid: int) -> None:
    """Admins may remove anyone but themselves: one of them is left that way."""
    require_admin(caller)
    if caller.id == uid:
        refuse("You cannot remove yourself; another admin can")


def check_admins_left(values: Values, entity: User) -> None:
    """Somebody stays an admin who can sign in: no change may lock out the last one.

    Two changes at once meet at the admins' rows, which are locked.
    """
    stays = values.get("is_admin", entity.is_admin) and values.get("is_active", entity.is_active)
    if stays or not (entity.is_admin and entity.is_active):
        return
    admins = select(User.id).where(User.is_admin, User.is_active).with_for_update()
    if set(db.session.scalars(admins)) <= {entity.id}:
        refuse(f"{entity.email} is the only admin left; make another member one first")
