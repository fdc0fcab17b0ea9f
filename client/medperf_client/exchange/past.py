"""A registry that has another past than was read here: what the catalog keeps of it, and of which.

A backup that was put back, an older snapshot, a lossy failover, or another registry at the same
address: the change log's digest tells (see `sync`). What is here is in doubt then until it was read
again. What nobody confirms stays known as a ghost, so that what refers to it can be recognised.
What that means for the queue is in `lost`.
"""

from collections.abc import Callable, Iterable

from medperf_cache import Catalog
from medperf_client.kinds import KINDS, Entity, moment

GHOST, GONE = "ghost-", "gone-"
# The catalog's note of the UID that its member had in another registry at this address.
FORMER = "former"
# What its member was told of a list that no change log tells of: see `Kind.asked`.
TOLD = "told-"

# Called with a type and an entity as it was and as it is; None before it was, or once it is gone.
Notice = Callable[[str, Entity | None, Entity | None], None]


def doubt(catalog: Catalog, suspect: bool = True) -> None:
    """Have everything read again; `suspect` that the registry may have lost something."""
    with catalog.transaction():
        reread(catalog, suspect)
        _forget_unlogged(catalog)


def reread(catalog: Catalog, suspect: bool = True) -> None:
    """Have the change log read again from its beginning, and what it does not tell of kept."""
    with catalog.transaction():
        catalog.doubt(kind.name for kind in KINDS.values() if kind.is_logged)
        catalog.losses += suspect


def _forget_unlogged(catalog: Catalog) -> None:
    """Forget what would be of another past, and no log could tell."""
    for kind in KINDS.values():
        if not kind.is_logged:
            catalog.replace(kind.name, ())
            catalog.replace(TOLD + kind.name, ())


def take(catalog: Catalog, kind: str, uid: int, entity: Entity | None, notice: Notice) -> None:
    """Put what the change log says of an entity into the catalog; None is that it is gone."""
    before, was_in_doubt = catalog.get(kind, uid), catalog.confirm(kind, uid)
    notice(kind, before, entity)
    if entity is None:
        one = before or catalog.get(GONE + kind, uid) or {}
        catalog.put(GONE + kind, {"id": uid, "created_at": one.get("created_at")})
        catalog.remove(kind, uid)
        return
    if was_in_doubt and before != entity:
        # It may be another than this member wrote: what was sent tells, see `look_back`.
        catalog.losses += 1
        if before is not None and is_another(before, entity):
            _keep_ghost(catalog, kind, before)
    catalog.put(kind, entity)
    _forget_deleted(catalog, kind, uid)


def note(catalog: Catalog, kind: str, answer: Entity, is_newest: bool) -> None:
    """Put what the registry answered to a write into the catalog, in doubt until its log tells too.

    Else nobody would notice that it has lost the write and nothing that was read before. What the
    catalog knows already stays; so does all else of it unless this `is_newest`.
    """
    with catalog.transaction():
        known = catalog.get(kind, answer["id"])
        if known is None or moment(known) < moment(answer):
            catalog.doubt_one(kind, answer["id"])
            _forget_deleted(catalog, kind, answer["id"])
            if is_newest:
                catalog.put(kind, answer)


def _forget_deleted(catalog: Catalog, kind: str, uid: int) -> None:
    """Forget that something with this UID was deleted, unless it is known when that was created."""
    gone = catalog.get(GONE + kind, uid)
    if gone is not None and not gone.get("created_at"):
        catalog.remove(GONE + kind, uid)


def end(catalog: Catalog, doubted: Iterable[tuple[str, int]], notice: Notice) -> bool:
    """The log was read to its end; whether that is all: else it is to be read from its beginning.

    `doubted` is what was in doubt when its last page was asked for. What of it a whole reading does
    not tell of is not in the registry any more; after another one, nothing of the past is sure.
    """
    left = [(kind, uid) for kind, uid in doubted if catalog.confirm(kind, uid)]
    if left and not catalog.is_read_again:
        doubt(catalog)
        return False
    catalog.is_read_again = False
    if left:
        _forget_unlogged(catalog)
    for kind, uid in left:
        ghost = catalog.get(kind, uid)
        if ghost is not None:
            notice(kind, ghost, None)
            _keep_ghost(catalog, kind, ghost)
            catalog.remove(kind, uid)
    return True


def _keep_ghost(catalog: Catalog, kind: str, entity: Entity) -> None:
    """Keep what the registry has lost, beside all else that had its UID before.

    The count of losses tells them apart: what was written until then means this one.
    """
    ghosts = _ghosts(catalog, kind, entity["id"])
    catalog.losses += 1
    row = {"id": entity["id"], "ghosts": [*ghosts, [catalog.losses, entity]]}
    catalog.put(GHOST + kind, row)


def _ghosts(catalog: Catalog, kind: str, uid: int) -> list[tuple[int, Entity]]:
    row = catalog.get(GHOST + kind, uid)
    # An earlier version kept the last one, and nothing else.
    return row.get("ghosts", [(catalog.losses, row)]) if row else []


def ghost_of(catalog: Catalog, kind: str, uid: int, past: int) -> Entity | None:
    """What had a UID when there had been `past` losses, if the registry lost it since.

    None, too, if it is back.
    """
    ghosts = _ghosts(catalog, kind, uid)
    ghost = next((entity for losses, entity in ghosts if losses > past), None)
    now = catalog.get(kind, uid)
    return None if ghost and now and not is_another(ghost, now) else ghost


def is_another(entity: Entity, other: Entity) -> bool:
    """Whether two entities that had the same UID are not the same one."""
    return bool(
        entity.get("created_at")
        and other.get("created_at")
        and moment(entity, "created_at") != moment(other, "created_at")
    )
