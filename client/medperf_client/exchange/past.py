"""A registry that has another past than was read here: read again, see what it lost, send it anew.

A backup that was put back, an older snapshot, a lossy failover, or another registry at the same
address: the change log's digest tells (see `sync`). What is here is in doubt then until it was read
again. What nobody confirms stays known as a ghost, so that what refers to it can be recognised.
"""

import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from medperf_cache import Catalog
from medperf_cache.outbox import LOST, QUEUED, REFERENCE, SENDING, SENT, Entry, Outbox, with_needs
from medperf_client.errors import MedPerfError, UsageError
from medperf_client.exchange.queue import Queue
from medperf_client.kinds import KINDS, Entity, Kind, described, holds, kind_of, moment, renamed
from medperf_client.kinds.submission import PENDING
from medperf_client.registry.client import Registry

GHOST, GONE = "ghost-", "gone-"
# The catalog's note of the UID that its member had in another registry at this address.
FORMER = "former"

# Called with a type and an entity as it was and as it is; None before it was, or once it is gone.
Notice = Callable[[str, Entity | None, Entity | None], None]


def doubt(catalog: Catalog, suspect: bool = True) -> None:
    """Have everything read again; `suspect` that the registry may have lost something."""
    with catalog.transaction():
        catalog.doubt(kind.name for kind in KINDS.values() if kind.is_logged)
        catalog.losses += suspect
        for kind in KINDS.values():
            if not kind.is_logged:
                catalog.replace(kind.name, ())


def take(catalog: Catalog, kind: str, uid: int, entity: Entity | None, notice: Notice) -> None:
    """Put what the change log says of an entity into the catalog; None is that it is gone."""
    before, was_in_doubt = catalog.get(kind, uid), catalog.confirm(kind, uid)
    notice(kind, before, entity)
    if entity is None:
        catalog.put(GONE + kind, {"id": uid})
        catalog.remove(kind, uid)
        return
    if was_in_doubt and before != entity:
        # It may be another than this member wrote: what was sent tells, see `look_back`.
        catalog.losses += 1
        if before is not None and _is_another(before, entity):
            catalog.put(GHOST + kind, before)
    catalog.put(kind, entity)


def note(catalog: Catalog, kind: str, answer: Entity, is_newest: bool) -> None:
    """Put what the registry answered to a write into the catalog, in doubt until its log tells too.

    Else nobody would notice that it has lost the write and nothing that was read before. What the
    catalog knows already stays; so does all else of it unless this `is_newest`.
    """
    with catalog.transaction():
        known = catalog.get(kind, answer["id"])
        if known is None or moment(known) < moment(answer):
            catalog.doubt_one(kind, answer["id"])
            if is_newest:
                catalog.put(kind, answer)


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
    for kind, uid in left:
        ghost = catalog.get(kind, uid)
        if ghost is not None:
            notice(kind, ghost, None)
            catalog.put(GHOST + kind, ghost)
            catalog.remove(kind, uid)
    return True


def look_back(outbox: Outbox, catalog: Catalog) -> list[Entry]:
    """Note what of the queue the registry has lost, once all was read again; returns that.

    That is what was sent and is there no more, or not as it was, and what waits and refers to what
    is there no more. What came back after all counts as sent again.
    """
    losses = catalog.losses
    if catalog.is_read_again or outbox.checked("catalog") >= losses:
        return []
    found: list[Entry] = []
    with outbox.transaction():
        for entry in outbox.entries():
            if entry.state in (SENT, LOST) and entry.answer and _is_mine(entry, catalog):
                found += _looked_at(outbox, catalog, entry)
        found += _waiting_in_vain(outbox, catalog)
        outbox.check_off("catalog", losses)
    return found


def _looked_at(outbox: Outbox, catalog: Catalog, entry: Entry) -> Iterable[Entry]:
    lost = _is_lost(entry, catalog)
    if lost and entry.state == SENT:
        yield _lose(outbox, entry)
    elif not lost and entry.state == LOST:
        outbox.change(entry.uid, state=SENT, reason="")


def look_back_at_unlogged(outbox: Outbox, catalog: Catalog, registry: Registry) -> list[Entry]:
    """The same for what no change log tells of: the registry is asked for each."""
    losses = catalog.losses
    if catalog.is_read_again or outbox.checked("members") >= losses:
        return []
    found = []
    for entry in outbox.entries():
        kind = kind_of(entry.kind)
        if not kind.is_logged and entry.state == SENT and _is_mine(entry, catalog):
            path, body = entry.resolved(lambda uid: outbox.get(uid).real_uid or 0)
            there = {_told_apart(kind, one) for one in registry.pages(path)}
            if _told_apart(kind, body) not in there:
                found.append(_lose(outbox, entry))
    outbox.check_off("members", losses)
    return found


def _told_apart(kind: Kind, entity: Entity) -> tuple[str, ...]:
    return tuple(str(entity.get(field)).casefold() for field in kind.unique)


def resend(
    queue: Queue, catalog: Catalog, uids: Sequence[str], member: int | str | None
) -> tuple[list[Entry], list[Entry]]:
    """Queue anew what was lost: all of it, or entries and what they need; each under a new key.

    Returns them, and those that have to wait, with the reason. Raises `UsageError` for an entry
    that was not lost.
    """
    again: list[Entry] = []
    left: list[Entry] = []
    with queue.outbox.transaction():
        entries = {entry.uid: entry for entry in queue.outbox.entries()}
        lost = {uid for uid, entry in entries.items() if entry.state == LOST}
        for uid in uids:
            if queue.entry(uid).state != LOST:
                raise UsageError(f"{uid} was not lost", hint="See: medperf queue ls --all")
        wanted = with_needs(uids, entries) & lost if uids else lost
        for entry in (entry for uid, entry in entries.items() if uid in wanted):
            try:
                path, body = _with_successors(entry, catalog)
            except MedPerfError as error:
                left.append(queue.outbox.change(entry.uid, reason=str(error)))
                continue
            pair = queue.pair(entry)
            again.append(
                queue.outbox.renew(
                    entry.uid,
                    path=path,
                    body=body,
                    answer=None,
                    member=member,
                    after=[one.uid for one in again if pair and queue.pair(one) == pair],
                )
            )
    return again, left


def _is_mine(entry: Entry, catalog: Catalog) -> bool:
    """Whether the catalog's member sent it, perhaps under the UID that they had before."""
    me, former = catalog.me or {}, catalog.get(FORMER, 0) or {}
    return entry.member in (None, me.get("id"), former.get("member"))


def _is_another(entity: Entity, other: Entity) -> bool:
    """Whether two entities that had the same UID are not the same one."""
    return bool(
        entity.get("created_at")
        and other.get("created_at")
        and moment(entity, "created_at") != moment(other, "created_at")
    )


def _is_lost(entry: Entry, catalog: Catalog) -> bool:
    answer = entry.answer or {}
    if not kind_of(entry.kind).is_logged or "id" not in answer:
        return False
    now = catalog.get(entry.kind, answer["id"])
    if now is None or _is_another(now, answer):
        return catalog.get(GONE + entry.kind, answer["id"]) is None
    if entry.method == "POST":
        return False
    undecided = entry.body.get("approval_status", PENDING) != PENDING == now["approval_status"]
    return undecided or moment(now) < moment(answer)


def _lose(outbox: Outbox, entry: Entry) -> Entry:
    what = described(entry.kind, {**entry.body, **(entry.answer or {})})
    reason = f"the registry does not have it any more: {what}"
    return outbox.change(entry.uid, state=LOST, reason=reason)


def _waiting_in_vain(outbox: Outbox, catalog: Catalog) -> Iterable[Entry]:
    """What refers to what is not there: to one's own by its entry from now on, else it is lost."""
    entries = outbox.entries()
    own = {
        (entry.kind, entry.answer["id"]): entry.uid
        for entry in entries
        if entry.state == LOST and entry.method == "POST" and entry.answer and "id" in entry.answer
    }
    for entry in entries:
        if entry.state == SENT:
            continue
        missing: list[str] = []

        def uid_of(kind: str, uid: int, missing: list[str] = missing) -> Any:
            if (kind, uid) in own:
                return {REFERENCE: own[kind, uid]}
            ghost = catalog.get(GHOST + kind, uid)
            if ghost is not None:
                missing.append(described(kind, ghost))
            return uid

        path, body = renamed(entry.kind, entry.path, entry.body, uid_of)
        if (path, body) != (entry.path, entry.body):
            # A key stands for one body; what referred to what is lost has not arrived either.
            fresh = {"key": str(uuid.uuid4()), "state": QUEUED} if entry.state == SENDING else {}
            outbox.change(entry.uid, path=path, body=body, **fresh)
        if missing and entry.state != LOST:
            reason = f"it refers to what the registry does not have any more: {', '.join(missing)}"
            yield outbox.change(entry.uid, state=LOST, reason=reason)


def _with_successors(entry: Entry, catalog: Catalog) -> tuple[str, Entity]:
    """Path and body with the UIDs that what it refers to has by now.

    What others had registered they have to send again first; it is known by its content. Raises
    `MedPerfError` naming what is not there yet.
    """

    def successor(kind: str, uid: int) -> int:
        ghost = catalog.get(GHOST + kind, uid)
        if ghost is None:
            return uid
        for one in catalog.all(kind):
            if _is_same(kind, one, ghost):
                return int(one["id"])
        raise MedPerfError(
            f"{described(kind, ghost)} is not in the registry any more: its owner has to send it "
            "again first"
        )

    path, body = renamed(entry.kind, entry.path, entry.body, successor)
    again = kind_of(entry.kind).again
    return path, again(entry.path, body, entry.answer or {}, _Past(catalog, successor))


@dataclass(frozen=True)
class _Past:
    """What was here before, and what is; see `kinds.kind.Past`."""

    catalog: Catalog
    successor: Callable[[str, int], int]

    def lost(self, kind: str, uid: int) -> Entity | None:
        return self.catalog.get(GHOST + kind, uid)

    def now(self, kind: str, uid: int) -> Entity | None:
        return self.catalog.get(kind, uid)

    def all(self, kind: str) -> list[Entity]:
        return self.catalog.all(kind)


def _is_same(kind: str, one: Entity, ghost: Entity) -> bool:
    fields = [name for name in kind_of(kind).unique if isinstance(ghost.get(name), str)]
    return holds(one, ghost, *fields)
