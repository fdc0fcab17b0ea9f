"""What of the queue a registry has lost, because it has another past: found out, and sent anew.

Once all was read again (see `past`), what was sent is looked for in the catalog, and what waits is
looked through for what it refers to.
"""

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medperf_cache import Catalog
from medperf_cache.outbox import (
    LOST,
    QUEUED,
    REFERENCE,
    SENDING,
    SENT,
    SUPERSEDED,
    Entry,
    Outbox,
    Subject,
    with_needs,
)
from medperf_client.errors import MedPerfError, UsageError
from medperf_client.exchange.past import FORMER, GONE, ghost_of, is_another
from medperf_client.exchange.queue import Queue
from medperf_client.kinds import (
    Entity,
    Kind,
    Renamed,
    described,
    holds,
    kind_of,
    moment,
    named_in,
    renamed,
)
from medperf_client.kinds.submission import PENDING
from medperf_client.registry.client import Registry


def look_back(outbox: Outbox, catalog: Catalog) -> list[Entry]:
    """Note what of the queue the registry has lost, once all was read again; returns that.

    That is what was sent and is there no more, or not as it was, and what waits and refers to what
    is there no more. What came back after all counts as sent again. From then on a UID in what
    waits means what has it now.
    """
    if catalog.is_read_again or outbox.checked("catalog") >= catalog.losses:
        return []
    with outbox.transaction():
        past, losses = outbox.checked("catalog"), catalog.losses
        found: list[Entry] = []
        for entry in outbox.entries():
            found += _looked_at(outbox, catalog, entry, past)
        found += _referring_in_vain(outbox, catalog, found, past)
        outbox.check_off("catalog", losses)
    return found


def _looked_at(outbox: Outbox, catalog: Catalog, entry: Entry, past: int) -> Iterable[Entry]:
    answer = entry.answer or {}
    if not kind_of(entry.kind).is_logged or "id" not in answer or not _is_mine(entry, catalog):
        return
    known = (catalog.get(name, answer["id"]) for name in (entry.kind, GONE + entry.kind))
    now, gone = (one if one and not is_another(one, answer) else None for one in known)
    stands = now is not None and _stands(entry, now, answer)
    if stands and entry.state == LOST:
        outbox.change(entry.uid, state=SENT, reason="", past=None)
    elif not stands and gone is None and entry.state == SENT:
        yield _lose(outbox, entry, past)


def look_back_at_unlogged(outbox: Outbox, catalog: Catalog, registry: Registry) -> list[Entry]:
    """The same for what no change log tells of: the registry is asked for each."""
    losses = catalog.losses
    if catalog.is_read_again or outbox.checked("members") >= losses:
        return []
    found = []
    for entry in outbox.entries():
        kind = kind_of(entry.kind)
        if not kind.is_logged and entry.state == SENT and _is_mine(entry, catalog):
            path, body = entry.resolved(lambda uid: _real_uid(outbox, uid))
            if any(catalog.get(one, int(uid)) is None for one, uid in named_in(path)):
                continue  # It went with what it belonged to.
            there = {_told_apart(kind, one) for one in registry.pages(path)}
            if _told_apart(kind, body) not in there:
                found.append(_lose(outbox, entry, outbox.checked("catalog")))
    outbox.check_off("members", losses)
    return found


def _told_apart(kind: Kind, entity: Entity) -> tuple[str, ...]:
    return tuple(str(entity.get(field)).casefold() for field in kind.unique)


def _real_uid(outbox: Outbox, uid: str) -> int:
    entry = outbox.find(uid)
    return entry.real_uid or 0 if entry else 0


def resend(
    queue: Queue, catalog: Catalog, uids: Sequence[str], member: int | str | None
) -> tuple[list[Entry], list[Entry]]:
    """Queue anew what was lost: all of it, or entries and what they need.

    Returns them, and those that have to wait, with the reason. Raises `UsageError` for an entry
    that was not lost.
    """
    again: list[Entry] = []
    left: list[Entry] = []
    latest: dict[Subject, str] = {}
    with queue.outbox.transaction():
        entries = {entry.uid: entry for entry in queue.outbox.entries()}
        lost = {uid for uid, entry in entries.items() if entry.state == LOST}
        for uid in uids:
            if queue.entry(uid).state != LOST:
                raise UsageError(f"{uid} was not lost", hint="See: medperf queue ls --all")
        wanted = with_needs(uids, entries) & lost if uids else lost
        for entry in (entry for uid, entry in entries.items() if uid in wanted):
            try:
                said = _with_successors(entry, catalog)
            except MedPerfError as error:
                left.append(queue.outbox.change(entry.uid, reason=str(error)))
                continue
            about = queue.outbox.subject(entry)
            after = [latest[about]] if about in latest else []
            changes = {**said, **_begun_again(entry, said), "member": member, "after": after}
            again.append(queue.outbox.change(entry.uid, **changes))
            if about:
                latest[about] = entry.uid
    return again, left


def _begun_again(entry: Entry, said: Entity) -> Entity:
    """What changes of a lost entry that is to be sent again and says what is `said`.

    Its key stays while it says the same: the registry may get back the past in which it knows it.
    """
    same = all(getattr(entry, name) == value for name, value in said.items())
    return {
        "key": entry.key if same else str(uuid.uuid4()),
        "state": entry.begins,
        "answer": None if entry.answer is None else {},
        "reason": "",
        "attempts": 0,
        "before": None,
        "past": None,
    }


def _is_mine(entry: Entry, catalog: Catalog) -> bool:
    """Whether the catalog's member sent it, perhaps under the UID that they had before."""
    me, former = catalog.me or {}, catalog.get(FORMER, 0) or {}
    return entry.member in (None, me.get("id"), former.get("member"))


def _stands(entry: Entry, now: Entity, answer: Entity) -> bool:
    """Whether what the registry answered is so, or was changed since; `now` is what it made."""
    if entry.method == "POST":
        return True
    undecided = entry.body.get("approval_status", PENDING) != PENDING == now["approval_status"]
    return not undecided and moment(now) >= moment(answer)


def _lose(outbox: Outbox, entry: Entry, past: int) -> Entry:
    what = described(entry.kind, {**entry.body, **(entry.answer or {})})
    reason = f"the registry does not have it any more: {what}"
    return outbox.change(entry.uid, state=LOST, reason=reason, past=past)


def _referring_in_vain(
    outbox: Outbox, catalog: Catalog, lost: list[Entry], past: int
) -> Iterable[Entry]:
    """What refers to what was lost since `past`: to one's own by its entry from now on, else it is
    lost, too; and so is what was sent, belongs to what is `lost`, and no change log tells of."""
    own = {
        (entry.kind, entry.answer["id"]): entry.uid
        for entry in lost
        if entry.method == "POST" and entry.answer
    }
    just_lost = {entry.uid for entry in lost}
    # As they are stored: what is held may have been sent.
    for entry in filter(None, map(outbox.find, [one.uid for one in outbox.entries()])):
        unlogged = entry.state == SENT and not kind_of(entry.kind).is_logged
        # What was lost before means what it meant then.
        if entry.state in (SENT, LOST, SUPERSEDED) and not (unlogged or entry.uid in just_lost):
            continue
        changes, missing = _told_anew(entry, own, catalog, past)
        if not (changes or missing or (unlogged and entry.references & just_lost)):
            continue
        if entry.state not in (SENT, LOST):
            changes |= _another_try(entry)
        changed = outbox.change(entry.uid, **changes)
        if missing and entry.state != LOST:
            reason = f"it refers to what the registry does not have any more: {', '.join(missing)}"
            yield outbox.change(entry.uid, state=LOST, reason=reason, past=past)
        elif unlogged:
            yield _lose(outbox, changed, past)


def _told_anew(
    entry: Entry, own: Mapping[tuple[str, int], str], catalog: Catalog, past: int
) -> tuple[Entity, list[str]]:
    """What of an entry changes once it refers to what is its `own` by its entry; in words, what
    else of what it refers to was lost since `past`."""
    missing: list[str] = []

    def uid_of(kind: str, uid: int) -> Any:
        if (kind, uid) in own:
            return {REFERENCE: own[kind, uid]}
        if (ghost := ghost_of(catalog, kind, uid, past)) is not None:
            missing.append(described(kind, ghost))
        return uid

    said = _renamed(entry, uid_of)
    decided = entry.body.get("id")
    if kind_of(entry.kind).sides and isinstance(decided, int):
        ghost = ghost_of(catalog, entry.kind, decided, past)
        if ghost is not None:
            missing.append(described(entry.kind, ghost))
    return {name: value for name, value in said.items() if value != getattr(entry, name)}, missing


def _another_try(entry: Entry) -> Entity:
    """What changes of an entry that waits once it says something else.

    It gets another key: that stands for what it said, and whoever is about to send that finds out.
    What may have arrived is lost with what it refers to, and may come back with it.
    """
    arrived = {"state": QUEUED, "answer": {}} if entry.state == SENDING else {}
    return {"key": str(uuid.uuid4()), **arrived}


def _renamed(entry: Entry, uid_of: Renamed) -> Entity:
    """Path, body and `until` of an entry with `uid_of` in place of all UIDs."""
    path, body = renamed(entry.kind, entry.path, entry.body, uid_of)
    until = entry.until
    if until:
        until = {**until, "of": renamed(until["kind"], "", until["of"], uid_of)[1]}
    return {"path": path, "body": body, "until": until}


def _with_successors(entry: Entry, catalog: Catalog) -> Entity:
    """Path, body and `until` with the UIDs that what it refers to has by now.

    What others had registered they have to send again first; it is known by its content. Raises
    `MedPerfError` naming what is not there yet.
    """
    past = entry.past or 0

    def successor(kind: str, uid: int) -> int:
        ghost = ghost_of(catalog, kind, uid, past)
        if ghost is None:
            return uid
        for one in catalog.all(kind):
            if _is_same(kind, one, ghost):
                return int(one["id"])
        raise MedPerfError(
            f"{described(kind, ghost)} is not in the registry any more: its owner has to send it "
            "again first"
        )

    said = _renamed(entry, successor)
    again = kind_of(entry.kind).again
    before = _Past(catalog, past, successor)
    return {**said, "body": again(entry.path, said["body"], entry.answer or {}, before)}


@dataclass(frozen=True)
class _Past:
    """What was here before, and what is; see `kinds.kind.Past`."""

    catalog: Catalog
    losses: int
    successor: Callable[[str, int], int]

    def lost(self, kind: str, uid: int) -> Entity | None:
        return ghost_of(self.catalog, kind, uid, self.losses)

    def now(self, kind: str, uid: int) -> Entity | None:
        return self.catalog.get(kind, uid)

    def all(self, kind: str) -> list[Entity]:
        return self.catalog.all(kind)


def _is_same(kind: str, one: Entity, ghost: Entity) -> bool:
    fields = [name for name in kind_of(kind).unique if isinstance(ghost.get(name), str)]
    return holds(one, ghost, *fields)
