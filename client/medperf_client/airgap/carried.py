"""What a bundle carries of the catalog and of a queue: checked, and joined with what is here."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from medperf_cache import Catalog, UnsafeArchive
from medperf_cache.bundle import Bundle, Manifest
from medperf_cache.digests import is_digest
from medperf_cache.outbox import HELD, LOST, QUEUED, REJECTED, SENDING, SENT, Entry, Outbox
from medperf_client.errors import MedPerfError
from medperf_client.exchange.past import doubt
from medperf_client.kinds import (
    KINDS,
    USER,
    Entity,
    described,
    kind_of,
    moment,
    sides_of,
)

CATALOG, NAMES, MEMO, OUTBOX = "catalog", "names", "memo", "outbox"
# Times beyond these cannot be shown in every time zone.
FIRST_YEAR, LAST_YEAR = 1970, 9000
# The catalog's note of the newest view that was carried here.
CARRIED = "carried"

FORMS = {
    "uid": re.compile("q[1-9][0-9]{0,17}"),
    "method": re.compile("POST|PUT"),
    # Nothing that leads out of the API, or to another host.
    "path": re.compile(r"(/([a-z]{1,32}|[1-9][0-9]{0,17}|\{q[1-9][0-9]{0,17}\}))+/"),
    "key": re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"),
    "state": re.compile("|".join((QUEUED, SENDING, SENT, REJECTED, LOST))),
}


@dataclass(frozen=True)
class About:
    """Where a bundle comes from: which registry, whose view of it, and as of when.

    `benchmark` is the UID of the only one it is about; `receipt_for` names the bundle whose queue
    was sent. `cursor` and `fetched_at` are the catalog's.
    """

    registry: str
    created_at: str
    member: Entity | None = None
    cursor: int = 0
    fetched_at: str | None = None
    benchmark: int | None = None
    receipt_for: str | None = None

    @classmethod
    def of(cls, manifest: Manifest) -> "About":
        """What a manifest says. Raises `UnsafeArchive` unless it has this form."""
        try:
            about = cls(**manifest.about)
            if about.member is not None:
                USER.checked(about.member)
            for text in (about.created_at, about.fetched_at or about.created_at):
                told = datetime.fromisoformat(text)
                if told.utcoffset() != timedelta(0) or not FIRST_YEAR < told.year < LAST_YEAR:
                    raise ValueError(f"{text} is no time in UTC")
            sound = (
                isinstance(about.registry, str)
                and type(about.cursor) is int
                and about.cursor >= 0
                and type(about.benchmark) in (int, type(None))
                and isinstance(about.receipt_for, (str, type(None)))
            )
            if not sound:
                raise ValueError("it is of another form")
        except (TypeError, ValueError, MedPerfError) as error:
            raise UnsafeArchive(f"what the bundle says of itself is wrong: {error}") from error
        return about

    @property
    def as_of(self) -> tuple[int, str]:
        """How new its view of the registry is."""
        return self.cursor, self.fetched_at or ""


def entities(bundle: Bundle) -> Iterator[tuple[str, Entity]]:
    """The catalog that a bundle carries. Raises `UnsafeArchive` unless its lines have the form."""
    for line in bundle.lines(CATALOG):
        try:
            kind, entity = line
            if kind not in KINDS or not KINDS[kind].is_carried:
                raise ValueError(f"{kind!r} is no type of entity")
            entity = KINDS[kind].checked(entity)
        except (TypeError, ValueError, KeyError, MedPerfError) as error:
            raise UnsafeArchive(f"the bundle's catalog is wrong: {error!r}") from error
        yield kind, entity


def everything(catalog: Catalog) -> Iterator[tuple[str, Entity]]:
    """All of a catalog that a bundle may carry, each entity with the name of its kind."""
    for kind in KINDS.values():
        for entity in catalog.all(kind.name) if kind.is_carried else ():
            yield kind.name, entity


def entries(bundle: Bundle) -> list[Entry]:
    """The queue that a bundle carries. Raises `UnsafeArchive` unless each entry has the form."""
    try:
        found = [_entry(line) for line in bundle.lines(OUTBOX)]
        uids = {entry.uid for entry in found}
        if len(uids) != len(found):
            raise ValueError("a UID is there twice")
        for entry in found:
            if not entry.needs <= uids:
                raise ValueError(f"{entry.uid} needs what is not there")
            if entry.state == SENT and entry.real_uid is not None:
                kind_of(entry.kind).checked(entry.answer)
    except (TypeError, ValueError, RecursionError, MedPerfError) as error:
        raise UnsafeArchive(f"the bundle's queue is wrong: {error}") from error
    return found


def _entry(line: Any) -> Entry:
    entry = Entry(**line)
    if entry.kind not in KINDS or not KINDS[entry.kind].path:
        raise ValueError(f"kind is {entry.kind!r}")
    for name, form in FORMS.items():
        value = getattr(entry, name)
        if not isinstance(value, str) or not form.fullmatch(value):
            raise ValueError(f"{name} is {value!r}")
    kinds: dict[str, Any] = {
        **dict.fromkeys(("created_at", "reason"), str),
        **dict.fromkeys(("body", "unknown"), dict),
        **{"after": list, "attempts": int, "before": int | None, "uploads": list},
        **{"answer": dict | None, "member": int | str | None, "sent_day": int | None},
    }
    for name, kind in kinds.items():
        if not isinstance(getattr(entry, name), kind):
            raise ValueError(f"{name} is {getattr(entry, name)!r}")
    if not all(isinstance(value, str) for value in [*entry.unknown.values(), *entry.after]):
        raise ValueError("unknown and after hold what is no text")
    if not all(isinstance(value, str) and is_digest(value) for value in entry.uploads):
        raise ValueError("uploads holds what is no SHA-256")
    return entry


def merge(
    catalog: Catalog, about: About, carried: Iterable[tuple[str, Entity]], trusted: bool = False
) -> tuple[int, list[str]]:
    """Bring a catalog up to date with what a bundle carries.

    Returns how many entities changed, and in words those that stay as they were although they are
    newer there: what pins an entity's content only the registry itself may change, or who is
    `trusted`. A whole view of this member that comes from there, and is newer than all seen here,
    takes the catalog's place; of any other what is newer than its copy here, or new, is taken. All
    that is in doubt until the registry itself is read again, from the beginning.
    """
    with catalog.transaction():
        if about.fetched_at is None:
            return 0, []
        me = catalog.me
        mine = me is None or (about.member is not None and about.member["id"] == me["id"])
        seen = catalog.get(CARRIED, 0) or {"as_of": [0, ""]}
        newest = max((catalog.cursor, catalog.fetched_at or ""), tuple(seen["as_of"]))
        kept: list[str] = []
        if trusted and mine and about.benchmark is None and about.as_of >= newest:
            changed = _replace(catalog, carried)
            catalog.fetched_at = about.fetched_at
        else:
            changed = 0
            for kind, entity in carried:
                if not (mine or kind_of(kind).is_public) or not _is_newer(
                    catalog, about, newest, kind, entity
                ):
                    continue
                if not trusted and _gives_other_content(catalog, kind, entity):
                    kept.append(described(kind, entity))
                    continue
                catalog.put(kind, entity)
                changed += 1
            catalog.fetched_at = catalog.fetched_at or about.fetched_at
        if changed:
            doubt(catalog)
        if changed or trusted:
            # The cursor, which began anew, says no more how new the view is that was here.
            as_of = max(newest, about.as_of) if trusted else newest
            catalog.put(CARRIED, {"id": 0, "as_of": as_of})
        if me is None and about.member is not None:
            catalog.me = about.member
        return changed, kept


def _replace(catalog: Catalog, carried: Iterable[tuple[str, Entity]]) -> int:
    gone = {(kind, entity["id"]) for kind, entity in everything(catalog)}
    changed = 0
    for kind, entity in carried:
        gone.discard((kind, entity["id"]))
        if catalog.get(kind, entity["id"]) != entity:
            catalog.put(kind, entity)
            changed += 1
    for kind, uid in gone:
        catalog.remove(kind, uid)
    return changed + len(gone)


def _is_newer(
    catalog: Catalog, about: About, newest: tuple[int, str], kind: str, entity: Entity
) -> bool:
    """Whether an entity is newer than its copy here; `newest` is the newest view seen here."""
    known = catalog.get(kind, entity["id"])
    # The negative UIDs of a plain server's associations are places in one list.
    if entity["id"] <= 0 or known == entity:
        return False
    if known is None:
        # What a newer view of the whole registry does not have was deleted.
        return about.cursor >= newest[0]
    if not kind_of(kind).is_logged:
        return about.as_of > newest
    return moment(entity) > moment(known)


def _gives_other_content(catalog: Catalog, kind: str, entity: Entity) -> bool:
    """Whether what is known here would be made of other files, or other containers."""
    known = catalog.get(kind, entity["id"]) or {}
    fixed = (*kind_of(kind).pins, *kind_of(kind).refers)
    return any(
        known[name] != entity.get(name) for name in known if name.endswith("_hash") or name in fixed
    )


def to_carry(outbox: Outbox) -> list[Entry]:
    """The entries that wait, and those already sent that they refer to."""
    known = {entry.uid: entry for entry in outbox.entries()}
    waiting = {uid for uid, entry in known.items() if entry.state in (QUEUED, SENDING)}
    needed = {need for uid in waiting for need in known[uid].needs}
    return [entry for uid, entry in known.items() if uid in waiting | needed]


def asked_before(outbox: Outbox, catalog: Catalog) -> dict[str, int]:
    """`Entry.before` of each new one of a pair, as far as it can be known without asking.

    What waits comes after all that its catalog and the queue before it have of the same pair.
    """
    known = outbox.entries()
    uids = {entry.uid: entry.real_uid or entry.uid for entry in known}
    pairs = Counter(
        (kind.name, *(str(one.get(side)) for side in kind.sides))
        for kind in KINDS.values()
        if kind.sides
        for one in catalog.all(kind.name)
    )
    found = {}
    for entry in known:
        sides = sides_of(entry.kind, *entry.resolved(lambda uid: uids.get(uid, uid)))
        if not sides or entry.method != "POST" or entry.state == REJECTED:
            continue
        pair = (entry.kind, *sides)
        before = entry.before
        if entry.state == QUEUED or before is None:
            before = max(before or 0, pairs[pair])
        found[entry.uid] = before
        pairs[pair] = max(pairs[pair], before + 1)
    return found


def fates(outbox: Outbox) -> list[Entry]:
    """What became of every entry of a queue that was carried here."""
    return [
        replace(entry, state=SENDING) if entry.state == HELD else entry
        for entry in outbox.entries()
    ]


def settle(outbox: Outbox, catalog: Catalog, carried: Iterable[Entry]) -> list[Entry]:
    """Let the queue know what became of the entries that were carried away.

    Returns those that were decided. What was sent or changed here meanwhile stays as it is.
    """
    settled = []
    with outbox.alone():
        here = {entry.uid: entry for entry in outbox.entries()}
        for entry in carried:
            known = here.get(entry.uid)
            if known is None or known.key != entry.key or known.state == SENT:
                continue
            fate: Entity = {}
            found = {name: entry.body.get(name) for name in known.unknown}
            if found and all(isinstance(value, str) and value for value in found.values()):
                # A key stands for one body: that with what was found out elsewhere.
                fate = {"body": {**known.body, **found}, "unknown": {}}
            if entry.state in (SENT, REJECTED):
                fate |= {"state": entry.state, "reason": entry.reason, "answer": entry.answer}
                fate["sent_day"] = outbox.today()
            changed = outbox.update(known, **fate)
            if changed is None or "state" not in fate:
                continue
            settled.append(changed)
            uid, answer = entry.real_uid, entry.answer
            if answer and uid is not None and catalog.get(entry.kind, uid) is None:
                catalog.put(entry.kind, answer)
    if settled:
        # A receipt is somebody's word: what it says is in doubt until the registry says it, too.
        doubt(catalog)
    return settled
