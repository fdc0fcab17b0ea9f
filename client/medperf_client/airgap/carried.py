"""What a bundle carries of the catalog and of a queue: checked, and joined with what is here."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from medperf_cache import Catalog, UnsafeArchive
from medperf_cache.bundle import Bundle, Manifest
from medperf_cache.digests import is_digest
from medperf_cache.outbox import (
    HELD,
    LOST,
    QUEUED,
    REJECTED,
    SENDING,
    SENT,
    WAITING,
    WAITS,
    Entry,
    Outbox,
    with_needs,
)
from medperf_client.errors import MedPerfError
from medperf_client.exchange import conditions
from medperf_client.exchange.past import reread
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
    "state": re.compile("|".join((*WAITS, SENT, REJECTED, LOST))),
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
        except TypeError as error:
            raise UnsafeArchive(f"what the bundle says of itself is wrong: {error}") from error
        about.check()
        return about

    def check(self) -> None:
        """Raise `UnsafeArchive` unless it has this form; who makes a bundle asks it, too."""
        try:
            if self.member is not None:
                USER.checked(self.member)
            for text in (self.created_at, self.fetched_at or self.created_at):
                told = datetime.fromisoformat(text)
                if told.utcoffset() != timedelta(0) or not FIRST_YEAR < told.year < LAST_YEAR:
                    raise ValueError(f"{text} is no time in UTC")
            sound = (
                isinstance(self.registry, str)
                and type(self.cursor) is int
                and self.cursor >= 0
                and type(self.benchmark) in (int, type(None))
                and isinstance(self.receipt_for, (str, type(None)))
            )
            if not sound:
                raise ValueError("it is of another form")
        except (TypeError, ValueError, MedPerfError) as error:
            raise UnsafeArchive(f"what the bundle says of itself is wrong: {error}") from error

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
    return _checked(bundle.lines(OUTBOX))


def takeable(queue: Sequence[Entry]) -> list[Entity]:
    """A queue as a bundle carries it. Raises as `entries` does: what nobody would take is found out
    before somebody carries it."""
    lines = [vars(entry) for entry in queue]
    _checked(lines)
    return lines


def _checked(lines: Iterable[Any]) -> list[Entry]:
    try:
        found = [_entry(line) for line in lines]
        uids = {entry.uid for entry in found}
        if len(uids) != len(found):
            raise ValueError("a UID is there twice")
        for entry in found:
            # What was sent needs nothing any more.
            if entry.state != SENT and not entry.needs <= uids:
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
        **{"until": dict | None, "instead_of": str | None, "past": int | None},
    }
    for name, kind in kinds.items():
        if not isinstance(getattr(entry, name), kind):
            raise ValueError(f"{name} is {getattr(entry, name)!r}")
    if not all(isinstance(value, str) for value in [*entry.unknown.values(), *entry.after]):
        raise ValueError("unknown and after hold what is no text")
    if not all(isinstance(value, str) and is_digest(value) for value in entry.uploads):
        raise ValueError("uploads holds what is no SHA-256")
    if entry.instead_of is not None and not FORMS["uid"].fullmatch(entry.instead_of):
        raise ValueError(f"instead_of is {entry.instead_of!r}")
    if entry.until is not None:
        conditions.check(entry.until)
    return entry


def merge(
    catalog: Catalog, about: About, carried: Iterable[tuple[str, Entity]], trusted: bool = False
) -> tuple[int, list[str]]:
    """Bring a catalog up to date with what a bundle carries.

    Returns how many entities changed, and in words those that stay as they were although they are
    newer there: what pins an entity's content only the registry itself may change, or who is
    `trusted`. A whole view of this member that comes from there, and is newer than all seen here,
    takes the catalog's place; of any other what is newer than its copy here, or new, is taken, and
    of another member's only what everybody may see. All that is in doubt until the registry itself
    is read again, from the beginning.
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
            seen_here = carried if mine else _seen_by_all(carried)
            newer = (one for one in seen_here if _is_newer(catalog, about, newest, *one))
            changed, kept = _add(catalog, newer, trusted)
            catalog.fetched_at = catalog.fetched_at or about.fetched_at
        if changed:
            reread(catalog)
        if changed or trusted:
            # The cursor, which began anew, says no more how new the view is that was here.
            as_of = max(newest, about.as_of) if trusted else newest
            catalog.put(CARRIED, {"id": 0, "as_of": as_of})
        if me is None and about.member is not None:
            catalog.me = about.member
        return changed, kept


def _seen_by_all(carried: Iterable[tuple[str, Entity]]) -> Iterator[tuple[str, Entity]]:
    for kind, entity in carried:
        seen = kind_of(kind).seen_by_all(entity)
        if seen is not None:
            yield kind, seen


def _add(
    catalog: Catalog, newer: Iterable[tuple[str, Entity]], trusted: bool
) -> tuple[int, list[str]]:
    """Put in what is newer; how many that are, and in words those that stay as they were."""
    changed, kept = 0, []
    for kind, entity in newer:
        if not trusted and _gives_other_content(catalog, kind, entity):
            kept.append(described(kind, entity))
            continue
        known = catalog.get(kind, entity["id"]) or {}
        hidden = {name: known[name] for name in kind_of(kind).hidden if name in known}
        catalog.put(kind, {**hidden, **entity})
        changed += 1
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
    """The entries that wait, and those already sent that they need."""
    known = {entry.uid: entry for entry in outbox.entries()}
    waiting = {uid for uid, entry in known.items() if entry.state in WAITS}
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
        if entry.state in (QUEUED, WAITING) or before is None:
            before = max(before or 0, pairs[pair])
        found[entry.uid] = before
        pairs[pair] = max(pairs[pair], before + 1)
    return found


def fates(outbox: Outbox) -> list[Entry]:
    """What became of every entry of a queue that was carried here.

    What needs one that was refused here is not sent from here any more: it is queued again. All
    else that was not decided may yet be sent from here.
    """
    known = {entry.uid: entry for entry in outbox.entries()}
    refused = {uid for uid, entry in known.items() if entry.state == REJECTED}

    def fate(entry: Entry) -> Entry:
        if entry.state != HELD:
            return entry
        given_back = not refused.isdisjoint(with_needs([entry.uid], known))
        return replace(entry, state=QUEUED if given_back else SENDING)

    return [fate(entry) for entry in known.values()]


def settle(outbox: Outbox, catalog: Catalog, carried: Iterable[Entry]) -> list[Entry]:
    """Let the queue know what became of the entries that were carried away.

    Returns those that were decided. What nobody tried to send, and nobody will, is queued again.
    What was sent or changed here meanwhile stays as it is.
    """
    settled = []
    with outbox.alone():
        for entry in carried:
            known = outbox.find(entry.uid)
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
            elif (entry.state, known.state) == (QUEUED, SENDING) and not known.attempts:
                fate |= {"state": known.begins, "reason": conditions.why(known.until)}
            changed = outbox.update(known, **fate)
            if changed is None or entry.state not in (SENT, REJECTED):
                continue
            settled.append(changed)
            _learn(catalog, changed)
    if settled:
        # A receipt is somebody's word: what it says is in doubt until the registry says it, too.
        reread(catalog)
    return settled


def _learn(catalog: Catalog, sent: Entry) -> None:
    """Let the catalog know what the registry answered, as a receipt tells it.

    Of what is known here only that changes which this site asked for, and got.
    """
    answer, uid = sent.answer, sent.real_uid
    if not answer or uid is None:
        return
    known = catalog.get(sent.kind, uid)
    if known is None:
        catalog.put(sent.kind, answer)
    elif moment(known) < moment(answer):
        asked = {name: value for name, value in sent.body.items() if answer.get(name) == value}
        times = {name: answer[name] for name in ("modified_at",) if name in answer}
        catalog.put(sent.kind, {**known, **asked, **times})
