"""What waits to be sent: durable, in order, each entry exactly once."""

import sqlite3
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

from medperf_cache.disk import Store, open_store
from medperf_cache.errors import CacheError, NotWritable
from medperf_cache.locks import hold
from medperf_cache.pins import Keeping
from medperf_cache.reserve import Reserve

QUEUED, SENDING, SENT, REJECTED, HELD = "queued", "sending", "sent", "rejected", "held"
# The registry does not have it any more, or not what it refers to.
LOST = "lost"
# What is sent once something is so; and what is not, for a later one took its place.
WAITING, SUPERSEDED = "waiting", "superseded"
# What is to be sent, and what keeps all from being sent that needs it.
WAITS, STUCK = (QUEUED, WAITING, SENDING), (REJECTED, LOST, SUPERSEDED)
# Counted up when entries are found by other rows than before, or what they are about is told anew.
INDEX = 1
ROWS = ("needed/", "about/", "made/", "changed/")
# How a payload refers to an entry that has no UID in the registry yet: {REFERENCE: "q1"}.
REFERENCE = "$queued"

Json = dict[str, Any]
# A UID of the registry, or how a payload refers to an entry.
Reference = int | dict[str, str]
# The kind and the UID, such as 17 or q1, of each entity that an entry is about.
Subject = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Entry:
    """One write to a registry.

    `uid` (q1, q2, …) is its provisional UID, never used twice. `key` makes it happen once however
    often it is sent. `path` and `body` may refer to other entries (`REFERENCE`; in a path `{q1}`).
    `after` names entries it may not overtake. `unknown` maps fields of the body that could not be
    known yet to the URL they come from. `uploads` are the SHA-256s of files in the cache that the
    registry has to store before. `member` is whose it is: their UID in the registry, or the
    digest of their token while the registry never said who that is; None is anybody's. `reason` is
    why it waits or was refused; `answer` what the registry said when it took it. `before` is how
    many entities like it a registry that knows no keys had before it was first sent. `sent_day` is
    the number of the day on which it was sent, see `Outbox.today`. `until` is what has to be so
    before it is sent first, in plain data: `{"kind": ..., "of": ..., "is": ...}`, the fields of
    which entity, to which `of` may refer as a body does, have which values. `instead_of` names the
    entry whose place it took. `past` is, of a lost entry, how many of `Catalog.losses` there had
    been when the UIDs in it meant what they mean; the `answer` of one that was lost and is queued
    anew is empty.
    """

    uid: str
    kind: str
    method: str
    path: str
    body: Json
    key: str
    created_at: str
    state: str = QUEUED
    unknown: dict[str, str] = field(default_factory=dict)
    after: list[str] = field(default_factory=list)
    attempts: int = 0
    reason: str = ""
    answer: Json | None = None
    member: int | str | None = None
    before: int | None = None
    uploads: list[str] = field(default_factory=list)
    sent_day: int | None = None
    until: Json | None = None
    instead_of: str | None = None
    past: int | None = None

    @property
    def number(self) -> int:
        """Its place among the entries."""
        return int(self.uid[1:])

    @property
    def needs(self) -> set[str]:
        """The entries that must be sent before it: those it refers to, and those it comes after."""
        return self.references | set(self.after)

    @property
    def references(self) -> set[str]:
        """The entries whose UIDs it needs."""
        found: set[str] = set()

        def note(uid: str) -> str:
            found.add(uid)
            return uid

        self.resolved(note)
        self.condition(note)
        return found

    @property
    def begins(self) -> str:
        """The state in which it is queued, first or again."""
        return WAITING if self.until else QUEUED

    @property
    def real_uid(self) -> int | None:
        """The UID that the registry gave, once it did, and as long as it has it."""
        given: int | None = self.answer.get("id") if self.answer and self.state == SENT else None
        return given

    def resolved(self, uid_of: Callable[[str], Any]) -> tuple[str, Json]:
        """Path and body with `uid_of(q1)` in place of every reference to `q1`.

        What is deeper than the body's fields is no reference, but what a container wrote.
        """
        segments = [
            str(uid_of(part[1:-1])) if part[:1] == "{" and part[-1:] == "}" else part
            for part in self.path.split("/")
        ]
        return "/".join(segments), _resolved(self.body, uid_of)

    def condition(self, uid_of: Callable[[str], Any]) -> Json | None:
        """`until` with `uid_of(q1)` in place of every reference to `q1`."""
        return self.until and {**self.until, "of": _resolved(self.until["of"], uid_of)}


def _resolved(fields: Json, uid_of: Callable[[str], Any]) -> Json:
    return {
        name: uid_of(value[REFERENCE]) if is_reference(value) else value
        for name, value in fields.items()
    }


def is_reference(value: Any) -> bool:
    """Whether a value stands for the UID of another entry."""
    return isinstance(value, dict) and set(value) == {REFERENCE} and type(value[REFERENCE]) is str


class Outbox:
    """The entries of one site for one registry, in a folder of their own.

    What `add`, `change`, `update` or `drop` did survives a power cut once they return. Any number
    of processes may add, read and edit: who decides by what they read does so in a `transaction`,
    or with `update`. `alone` keeps two from sending at once.

    `about` tells what an entry is about, where order matters among those about the same thing; it
    says the same of the same entry at all times, or `INDEX` is counted up. Each entry is stored
    under its UID, and with it, in the same transaction, a row for each way that it is found by:
    what it needs, what it is about, what it made, and when it was changed last. So nobody reads all
    to find a few.

    `keeping` keeps in the cache the files that are to be uploaded, and those that were, as long as
    the registry may lose them: from before an entry is stored until after it is gone, so that a
    crash in between leaves too much there and never too little.
    """

    def __init__(
        self,
        folder: Path,
        about: Callable[[Entry], Subject] = lambda entry: (),
        keeping: Keeping | None = None,
    ) -> None:
        self._folder, self._about, self._keeping = folder, about, keeping
        self._is_indexed = False
        self._reserve = Reserve(folder / "reserve")

    @cached_property
    def _store(self) -> Store:
        return open_store(self._folder, durable=True)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Keep all others from writing during the block; it is stored whole or not at all."""
        with self._store.transact(retry=True):
            self._index()
            yield

    def add(
        self,
        kind: str,
        method: str,
        path: str,
        body: Json,
        unknown: dict[str, str] | None = None,
        after: Sequence[str] = (),
        member: int | str | None = None,
        uploads: Sequence[str] = (),
        until: Json | None = None,
        reason: str = "",
    ) -> Entry:
        """Store a new entry, the last in the queue; see `Entry` for what it holds.

        Raises `CacheError` if it refers to an entry that is not there.
        """
        # Imported late: who only lists what waits does not need it.
        import uuid

        with self.transaction():
            number = int(self._store.get("last", 0)) + 1
            entry = Entry(
                uid=f"q{number}",
                kind=kind,
                method=method,
                path=path,
                body=body,
                key=str(uuid.uuid4()),
                created_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
                unknown=unknown or {},
                after=list(after),
                reason=reason,
                member=member,
                uploads=list(uploads),
                until=until,
            )
            entry = replace(entry, state=entry.begins)
            self._store["last"] = number
            # Nothing can depend on it yet, so what it refers to cannot either.
            self._check_references(entry)
            self._put(entry)
        # For who drops it when the disk is full.
        self._reserve.hold()
        return entry

    def making_room(self) -> AbstractContextManager[None]:
        """For a block that makes room, before anything else: what is held back for it is free."""
        return self._reserve.spent()

    def check(self, entry: Entry) -> None:
        """Raise `CacheError` if an entry refers to one that is not there, or to itself."""
        self._check_references(entry)
        if entry.needs & {entry.uid, *(one.uid for one in self.dependents(entry.uid))}:
            raise CacheError(f"{entry.uid} refers to what depends on it")

    def _check_references(self, entry: Entry) -> None:
        for uid in sorted(entry.references):
            if f"entry/{uid}" not in self._store:
                raise CacheError(f"{entry.uid} refers to {uid}, which is not in the queue")

    def restore(self, entries: Iterable[Entry]) -> None:
        """Take entries of another outbox as they are; those that are here already stay."""
        with self.transaction():
            for entry in entries:
                if f"entry/{entry.uid}" not in self._store:
                    self._store["last"] = max(int(self._store.get("last", 0)), entry.number)
                    self._put(entry)

    def get(self, uid: str) -> Entry:
        """One entry. Raises `CacheError` if there is none.

        It is held if it waits for a stuck one.
        """
        family = self.family(uid)
        if uid not in family:
            raise CacheError(f"there is no queue entry {uid}")
        return next(one for one in _with_held(list(family.values())) if one.uid == uid)

    def find(self, uid: str) -> Entry | None:
        """One entry as it is stored, which does not tell whether it is held; None if it is gone."""
        stored = self._store.get(f"entry/{uid}") if self._folder.exists() else None
        return None if stored is None else _loaded(stored)

    def family(self, uid: str) -> dict[str, Entry]:
        """An entry and all it has to wait for, directly or through others, by UID, as stored."""
        found: dict[str, Entry] = {}
        left = {uid}
        while left:
            entry = self.find(left.pop())
            if entry is not None:
                found[entry.uid] = entry
                if entry.state in WAITS:
                    left |= entry.needs - found.keys()
        return found

    def entries(self) -> list[Entry]:
        """Every entry in the order of their UIDs; those that wait for a stuck one are held."""
        if not self._folder.exists():
            return []
        found = [_loaded(stored) for _, stored in self._store.with_prefix("entry/")]
        found.sort(key=lambda entry: entry.number)
        return _with_held(found)

    def changed(self, since: int | None = None) -> tuple[int, list[Entry]]:
        """How often entries were written, and those that were `since` it was so often, as stored.

        Who reads all first, and then again and again what changed since, misses nothing that
        anybody added or edited. What is dropped is not told.
        """
        if not self._folder.exists():
            return 0, []
        count = int(self._store.get("changes", 0))
        if since is None or since == count:
            return count, []
        rows = list(self._store.with_prefix("changed/", beyond=_changed(since)))
        found = [self.find(uid) for _, uid in rows]
        newest = max([count, *(int(key.removeprefix("changed/")) for key, _ in rows)])
        return newest, [entry for entry in found if entry is not None]

    def ahead(self, entry: Entry) -> list[str]:
        """What waits about the same thing, but for what another one of it comes after already."""
        subject = self.subject(entry)
        if not subject:
            return []
        names = [[(kind, name) for name in self._names(kind, uid)] for kind, uid in subject]
        found: dict[str, list[str]] = {}
        for one in product(*names):
            for key, after in self._store.with_prefix(f"about/{entry.kind}/{_text(one)}/"):
                found[key.rpartition("/")[2]] = after
        found.pop(entry.uid, None)
        last = found.keys() - {uid for after in found.values() for uid in after}
        return sorted(last, key=lambda uid: int(uid[1:]))

    def subject(self, entry: Entry) -> Subject:
        """What an entry is about, by the UIDs of the registry as far as it has given some."""

        def real(uid: str) -> str:
            made_by = self.find(uid)
            return uid if made_by is None or made_by.real_uid is None else str(made_by.real_uid)

        return tuple((kind, real(uid)) for kind, uid in self._about(entry))

    def _names(self, kind: str, uid: str) -> set[str]:
        """A UID of an entity, and those of the entries that made it."""
        made = self._store.with_prefix(f"made/{kind}/{uid}/")
        return {uid, *(key.rpartition("/")[2] for key, _ in made)}

    def renew(self, uid: str, **changes: Any) -> Entry:
        """Change some fields of an entry and let it be sent, as a new thing (a new key)."""
        # Imported late: who only lists what waits does not need it.
        import uuid

        with self.transaction():
            new = {"key": str(uuid.uuid4()), "attempts": 0, "before": None, "answer": None}
            entry = self.change(uid, **new, reason="")
            return self.change(uid, **{"state": entry.begins, **changes})

    def supersede(self, uid: str, by: str) -> Entry:
        """Let a later entry, which names what this one comes after, take the place of this one.

        Who is about to send it finds its key changed, and does not. Call it in a `transaction`
        that has seen it wait: what may have arrived keeps its place.
        """
        with self.transaction():
            entry = self.renew(uid, state=SUPERSEDED, reason=f"{by} took its place")
            after = {*self.change(by, instead_of=uid).after, *entry.after} - {uid}
            return self.change(by, after=sorted(after, key=lambda one: int(one[1:])))

    def change(self, uid: str, **values: Any) -> Entry:
        """Set fields of an entry. Raises `CacheError` if it is gone."""
        with self.transaction():
            known = self.find(uid)
            if known is None:
                raise CacheError(f"there is no queue entry {uid}")
            entry = replace(known, **values)
            self._put(entry)
        return entry

    def update(self, entry: Entry, **values: Any) -> Entry | None:
        """Set fields of an entry that was read before; None if it was edited or dropped since."""
        with self.transaction():
            known = self.find(entry.uid)
            if known is None or known.key != entry.key:
                return None
            return self.change(entry.uid, **values)

    def drop(self, uid: str) -> None:
        """Delete an entry; its UID is never used again."""
        with self.transaction():
            self._forget(self._store.get(f"entry/{uid}"))
            self._store.pop(f"entry/{uid}")

    def keep_no_more(self) -> None:
        """Have the cache keep the files that entries name, and no others.

        Not within a `transaction`: what is deleted in it may be there again. Where nothing can be
        written, more is kept than has to be, until it is asked for again.
        """
        if self._keeping is None or not self._folder.exists():
            return
        # Who adds an entry waits, and so does this for who has one kept and not stored yet.
        with suppress(NotWritable, sqlite3.OperationalError), self._store.transact(retry=True):
            self._keeping.only({digest for one in self.entries() for digest in one.uploads})

    def today(self) -> int:
        """The number of this day: one more than the last, if the clock says that it is a later one.

        So a clock that jumps, be it by years, makes one day more at most.
        """
        date = datetime.now(timezone.utc).toordinal()
        with self._store.transact(retry=True):
            known = self._store.get("day") or {"date": 0, "number": 0}
            if date > known["date"]:
                known = self._store["day"] = {"date": date, "number": known["number"] + 1}
        return int(known["number"])

    def let_go(self, days: int) -> list[Entry]:
        """Delete what was sent so many days ago and nothing here needs; returns it.

        And what was superseded, once what took its place has been sent, or is gone.
        """
        if not self._folder.exists():
            return []
        today, gone = self.today(), []
        with self.transaction():
            entries = self.entries()
            gone_soon = (SENT, SUPERSEDED)
            needed = {
                uid for entry in entries if entry.state not in gone_soon for uid in entry.needs
            }
            needed |= {
                entry.instead_of
                for entry in entries
                if entry.instead_of is not None and entry.state not in gone_soon
            }
            for entry in reversed(entries):
                if entry.state == SENT and entry.sent_day is None:
                    # It was sent before days were counted.
                    entry = self.change(entry.uid, sent_day=today)
                is_old = entry.state == SUPERSEDED or (
                    entry.state == SENT and (entry.sent_day or 0) <= today - days
                )
                if is_old and entry.uid not in needed:
                    self.drop(entry.uid)
                    gone.append(entry)
                else:
                    needed |= entry.needs
        if any(entry.uploads for entry in gone):
            self.keep_no_more()
        return gone

    def checked(self, what: str) -> int:
        """Up to which of `Catalog.losses` it is known what of a sort of entries was lost."""
        return int(self._store.get(f"checked/{what}", 0)) if self._folder.exists() else 0

    def check_off(self, what: str, losses: int) -> None:
        """Note that it is known up to there."""
        self._store[f"checked/{what}"] = losses

    def dependents(self, uid: str) -> list[Entry]:
        """The entries that refer to this one, directly or through others, as stored."""
        self._index()
        found: dict[str, Entry] = {}
        left = self.needing(uid)
        while left:
            entry = self.find(left.pop())
            if entry is not None and entry.uid != uid:
                found[entry.uid] = entry
                left |= self.needing(entry.uid) - found.keys()
        return sorted(found.values(), key=lambda entry: entry.number)

    def needing(self, uid: str) -> set[str]:
        """The entries that refer to this one directly."""
        rows = self._store.with_prefix(f"needed/{uid}/")
        return {key.rpartition("/")[2] for key, _ in rows}

    def _put(self, entry: Entry) -> None:
        before = self._store.get(f"entry/{entry.uid}")
        if self._keeping and not set(entry.uploads) <= set((before or {}).get("uploads", ())):
            self._keeping.add(entry.uploads)
        count = int(self._store.get("changes", 0)) + 1
        self._forget(before, kept := self._rows(entry))
        for key, value in kept.items():
            self._store[key] = value
        self._store["changes"], self._store[_changed(count)] = count, entry.uid
        # Not `asdict`, which copies a body to its depth.
        self._store[f"entry/{entry.uid}"] = {**vars(entry), "change": count}

    def _forget(self, stored: Json | None, kept: Container[str] = ()) -> None:
        """Delete the rows that a stored entry is found by, but those that are `kept`."""
        if stored is not None:
            rows = [*self._rows(_loaded(stored)), _changed(stored.get("change", 0))]
            for key in rows:
                if key not in kept:
                    self._store.pop(key)

    def _rows(self, entry: Entry) -> dict[str, list[str] | None]:
        """What an entry is found by, which follows from nothing but the entry."""
        rows: dict[str, list[str] | None] = {
            f"needed/{need}/{entry.uid}": None for need in entry.needs
        }
        if entry.state in WAITS and (subject := self._about(entry)):
            rows[f"about/{entry.kind}/{_text(subject)}/{entry.uid}"] = entry.after
        if entry.method == "POST" and entry.real_uid is not None:
            rows[f"made/{entry.kind}/{entry.real_uid}/{entry.uid}"] = None
        return rows

    def _index(self) -> None:
        """Store the rows of entries that another version of this software stored, with others.

        Whoever comes first does it, as a part of what they write.
        """
        if self._is_indexed or not self._folder.exists():
            return
        with self._store.transact(retry=True):
            self._is_indexed = self._store.get("indexed") == INDEX
            if not self._is_indexed:
                for prefix in ROWS:
                    for key, _ in self._store.with_prefix(prefix):
                        self._store.pop(key)
                for _, stored in self._store.with_prefix("entry/"):
                    self._put(_loaded(stored))
                self._store["indexed"] = INDEX

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Be the only process that sends; waits until no other does."""
        with hold(self._folder / "lock", "another medperf process is sending this queue"):
            yield


def with_needs(uids: Iterable[str], entries: Mapping[str, Entry]) -> set[str]:
    """Of some entries the UIDs of these and of everything they need, directly or through others."""
    found: set[str] = set()
    waiting = list(uids)
    while waiting:
        uid = waiting.pop()
        if uid in entries and uid not in found:
            found.add(uid)
            waiting += entries[uid].needs
    return found


def _with_held(entries: list[Entry]) -> list[Entry]:
    """The same entries, with HELD for those that cannot go before one that is stuck is mended."""
    waiting: dict[str, list[str]] = {}
    for entry in entries:
        if entry.state in WAITS:
            for need in entry.needs:
                waiting.setdefault(need, []).append(entry.uid)
    held: set[str] = set()
    stuck = [entry.uid for entry in entries if entry.state in STUCK]
    while stuck:
        more = set(waiting.get(stuck.pop(), ())) - held
        held |= more
        stuck += more
    return [replace(entry, state=HELD) if entry.uid in held else entry for entry in entries]


def _loaded(stored: Json) -> Entry:
    """Raises `CacheError` for an entry of a newer version: what that means is not known here."""
    said = {name: value for name, value in stored.items() if name != "change"}
    unknown = said.keys() - Entry.__dataclass_fields__.keys()
    if unknown:
        what = f"{said.get('uid')} of the queue has {', '.join(sorted(unknown))}"
        raise CacheError(f"{what}: a newer medperf wrote it; update this one")
    return Entry(**said)


def _changed(count: int) -> str:
    """The key of the entry that was written last then, which sorts as the counts do."""
    return f"changed/{count:018d}"


def _text(subject: Subject) -> str:
    return "/".join(f"{kind}:{uid}" for kind, uid in subject)
