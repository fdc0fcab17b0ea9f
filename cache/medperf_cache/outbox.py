"""What waits to be sent: durable, in order, each entry exactly once."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import Any

from medperf_cache.disk import Store, open_store
from medperf_cache.errors import CacheError
from medperf_cache.locks import hold

QUEUED, SENDING, SENT, REJECTED, HELD = "queued", "sending", "sent", "rejected", "held"
# The registry does not have it any more, or not what it refers to.
LOST = "lost"
# How a payload refers to an entry that has no UID in the registry yet: {REFERENCE: "q1"}.
REFERENCE = "$queued"

Json = dict[str, Any]
# A UID of the registry, or how a payload refers to an entry.
Reference = int | dict[str, str]


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
    the number of the day on which it was sent, see `Outbox.today`.
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
        return found

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
        body = {
            name: uid_of(value[REFERENCE]) if _is_reference(value) else value
            for name, value in self.body.items()
        }
        return "/".join(segments), body


def _is_reference(value: Any) -> bool:
    return isinstance(value, dict) and set(value) == {REFERENCE} and type(value[REFERENCE]) is str


class Outbox:
    """The entries of one site for one registry, in a folder of their own.

    What `add`, `change`, `update` or `drop` did survives a power cut once they return. Any number
    of processes may add, read and edit: who decides by what they read does so in a `transaction`,
    or with `update`. `alone` keeps two from sending at once.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @cached_property
    def _store(self) -> Store:
        return open_store(self._folder, durable=True)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Keep all others from writing during the block; it is stored whole or not at all."""
        with self._store.transact(retry=True):
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
    ) -> Entry:
        """Store a new entry, the last in the queue; see `Entry` for what it holds.

        Raises `CacheError` if it refers to an entry that is not there.
        """
        # Imported late: who only lists what waits does not need it.
        import uuid

        with self._store.transact(retry=True):
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
                member=member,
                uploads=list(uploads),
            )
            self._store["last"] = number
            self._put(entry)
            self.check(entry)
        return entry

    def check(self, entry: Entry) -> None:
        """Raise `CacheError` if an entry refers to one that is not there, or to itself."""
        for uid in sorted(entry.references):
            if f"entry/{uid}" not in self._store:
                raise CacheError(f"{entry.uid} refers to {uid}, which is not in the queue")
        if entry.needs & {entry.uid, *(one.uid for one in self.dependents(entry.uid))}:
            raise CacheError(f"{entry.uid} refers to what depends on it")

    def restore(self, entries: Iterable[Entry]) -> None:
        """Take entries of another outbox as they are; those that are here already stay."""
        with self._store.transact(retry=True):
            for entry in entries:
                if f"entry/{entry.uid}" not in self._store:
                    self._store["last"] = max(int(self._store.get("last", 0)), int(entry.uid[1:]))
                    self._put(entry)

    def get(self, uid: str) -> Entry:
        """One entry. Raises `CacheError` naming those there are."""
        for entry in self.entries():
            if entry.uid == uid:
                return entry
        raise CacheError(f"there is no queue entry {uid}")

    def entries(self) -> list[Entry]:
        """Every entry in the order of their UIDs; those that wait for a stuck one are held."""
        if not self._folder.exists():
            return []
        found = [Entry(**stored) for _, stored in self._store.with_prefix("entry/")]
        found.sort(key=lambda entry: int(entry.uid[1:]))
        return _with_held(found)

    def renew(self, uid: str, **changes: Any) -> Entry:
        """Change some fields of an entry and let it be sent, as a new thing (a new key)."""
        # Imported late: who only lists what waits does not need it.
        import uuid

        fresh = {"key": str(uuid.uuid4()), "state": QUEUED, "attempts": 0, "reason": ""}
        return self.change(uid, **{**fresh, "before": None, **changes})

    def change(self, uid: str, **values: Any) -> Entry:
        """Set fields of an entry. Raises `CacheError` if it is gone."""
        with self._store.transact(retry=True):
            stored = self._store.get(f"entry/{uid}")
            if stored is None:
                raise CacheError(f"there is no queue entry {uid}")
            entry = replace(Entry(**stored), **values)
            self._put(entry)
        return entry

    def update(self, entry: Entry, **values: Any) -> Entry | None:
        """Set fields of an entry that was read before; None if it was edited or dropped since."""
        with self._store.transact(retry=True):
            stored = self._store.get(f"entry/{entry.uid}")
            if stored is None or stored["key"] != entry.key:
                return None
            return self.change(entry.uid, **values)

    def drop(self, uid: str) -> None:
        """Delete an entry; its UID is never used again."""
        self._store.pop(f"entry/{uid}")

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
        """Delete what was sent so many days ago and nothing here needs; returns it."""
        if not self._folder.exists():
            return []
        today, gone = self.today(), []
        with self._store.transact(retry=True):
            entries = self.entries()
            needed = {uid for entry in entries if entry.state != SENT for uid in entry.needs}
            for entry in reversed(entries):
                if entry.state == SENT and entry.sent_day is None:
                    # It was sent before days were counted.
                    entry = self.change(entry.uid, sent_day=today)
                is_old = entry.state == SENT and (entry.sent_day or 0) <= today - days
                if is_old and entry.uid not in needed:
                    self.drop(entry.uid)
                    gone.append(entry)
                else:
                    needed |= entry.needs
        return gone

    def checked(self, what: str) -> int:
        """Up to which of `Catalog.losses` it is known what of a sort of entries was lost."""
        return int(self._store.get(f"checked/{what}", 0)) if self._folder.exists() else 0

    def check_off(self, what: str, losses: int) -> None:
        """Note that it is known up to there."""
        self._store[f"checked/{what}"] = losses

    def dependents(self, uid: str) -> list[Entry]:
        """The entries that refer to this one, directly or through others."""
        found: dict[str, Entry] = {}
        entries = self.entries()
        grew = True
        while grew:
            reached = {uid, *found}
            more = {e.uid: e for e in entries if e.uid not in reached and e.needs & reached}
            found |= more
            grew = bool(more)
        return list(found.values())

    def _put(self, entry: Entry) -> None:
        self._store[f"entry/{entry.uid}"] = asdict(entry)

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
    stuck = {entry.uid for entry in entries if entry.state in (REJECTED, LOST)}
    waiting = [entry for entry in entries if entry.state in (QUEUED, SENDING)]
    grew = True
    while grew:
        held = {entry.uid for entry in waiting if entry.needs & stuck} - stuck
        stuck |= held
        grew = bool(held)
    return [
        replace(entry, state=HELD)
        if entry.uid in stuck and entry.state not in (REJECTED, LOST)
        else entry
        for entry in entries
    ]
