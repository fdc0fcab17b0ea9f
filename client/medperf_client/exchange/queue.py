"""A site's queue as its member sees it: provisional UIDs, and entities that wait."""

from typing import TYPE_CHECKING

from medperf_cache.outbox import (
    LOST,
    QUEUED,
    REFERENCE,
    REJECTED,
    SENDING,
    SENT,
    Entry,
    Outbox,
    Reference,
)
from medperf_client.errors import UsageError
from medperf_client.kinds import Entity, kind_of, sides_of

if TYPE_CHECKING:  # To list what waits, what is submitted is not needed.
    from medperf_client.kinds.submission import Submission


class Queue:
    """The outbox, spoken to in UIDs: numbers are the registry's, q1 and so on are its own."""

    def __init__(self, outbox: Outbox) -> None:
        self.outbox = outbox

    def entry(self, uid: str) -> Entry:
        """An entry by its UID. Raises `UsageError` if there is none."""
        for entry in self.outbox.entries():
            if entry.uid == uid:
                return entry
        raise UsageError(f"there is no queue entry {uid}", hint="See: medperf queue ls")

    def add(self, submission: "Submission", member: int | str | None = None) -> Entry:
        """Queue a submission of a member, behind those about the same association that wait.

        Raises `CacheError` if it refers to an entry that was dropped meanwhile.
        """
        with self.outbox.transaction():
            entry = self.outbox.add(
                submission.kind,
                submission.method,
                submission.path,
                submission.body,
                submission.unknown,
                member=member,
                uploads=submission.uploads,
            )
            pair = self.pair(entry)
            before = [
                one.uid
                for one in self.waiting()
                if pair
                and self.pair(one) == pair
                and one.uid != entry.uid
                and one.state not in (REJECTED, LOST)
            ]
            return self.outbox.change(entry.uid, after=before)

    def pair(self, entry: Entry) -> tuple[str, ...]:
        """The kind and the two sides of a pair that an entry is about; empty for all else."""
        if not kind_of(entry.kind).sides:
            return ()
        return entry.kind, *sides_of(entry.kind, *entry.resolved(self.real_uid))

    def waiting(self) -> list[Entry]:
        """The entries that are not sent."""
        return [entry for entry in self.outbox.entries() if entry.state != SENT]

    def real_uid(self, uid: int | str) -> int | str:
        """The registry's UID for a provisional one, once there is one; all else as it is.

        Raises `UsageError` if there is no such entry, or it makes nothing that has one.
        """
        if isinstance(uid, int):
            return uid
        entry = self.entry(uid)
        if entry.method != "POST" or not kind_of(entry.kind).step:
            raise UsageError(f"{uid} creates nothing", hint=f"See: medperf queue view {uid}")
        return uid if entry.real_uid is None else entry.real_uid

    def reference(self, uid: int | str) -> Reference:
        """How a submission refers to an entity by UID, whether the registry has it yet or not."""
        real = self.real_uid(uid)
        return real if isinstance(real, int) else {REFERENCE: real}

    def entities(self, kind: str) -> list[Entity]:
        """The entities of a type that wait to be created, with what `queued` says of them."""
        return [
            self._entity(entry)
            for entry in self.waiting()
            if (entry.kind, entry.method) == (kind, "POST")
        ]

    def entity(self, kind: str, uid: str) -> Entity:
        """An entity that waits to be created. Raises `UsageError` if that is none of its type."""
        entry = self.entry(uid)
        if (entry.kind, entry.method) != (kind, "POST"):
            raise UsageError(
                f"{uid} creates no {kind_of(kind).word}", hint=f"See: medperf queue view {uid}"
            )
        return self._entity(entry)

    def _entity(self, entry: Entry) -> Entity:
        _, body = entry.resolved(self.real_uid)
        waits = {"queued": entry.state, "unknown": entry.unknown, "reason": entry.reason}
        return {**body, "id": entry.uid, **{name: value for name, value in waits.items() if value}}

    def retry(self, uid: str) -> Entry:
        """Let an entry be sent again as it is, by whoever is logged in then."""
        with self.outbox.transaction():
            self._decided(self.entry(uid), may_be_lost=False)
            return self.outbox.change(uid, state=QUEUED, reason="", member=None)

    def edit(self, entry: Entry, body: Entity) -> Entry:
        """Change what an entry says, and let it be sent again, as a new thing (a new key).

        `entry` is as it was before. Raises `UsageError` if it is not so any more, or cannot be
        edited, `CacheError` if the new body refers to what it cannot.
        """
        unknown = {field: url for field, url in entry.unknown.items() if not body.get(field)}
        with self.outbox.transaction():
            now = self.entry(entry.uid)
            self._decided(now, may_be_lost=False)
            if now.body != entry.body:
                raise UsageError(f"{entry.uid} has changed meanwhile", hint="Edit it again.")
            edited = self.outbox.renew(entry.uid, body=body, unknown=unknown)
            self.outbox.check(edited)
        return edited

    def drop(self, *uids: str) -> None:
        """Delete entries, all or none. Raises `UsageError` if others depend on them."""
        with self.outbox.transaction():
            for uid in uids:
                self._decided(self.entry(uid))
                others = {one.uid for one in self.outbox.dependents(uid)}.difference(uids)
                if others:
                    raise UsageError(
                        f"{', '.join(sorted(others))} came to depend on {uid} meanwhile",
                        hint="Look again: medperf queue ls",
                    )
            for uid in uids:
                self.outbox.drop(uid)

    @staticmethod
    def _decided(entry: Entry, may_be_lost: bool = True) -> None:
        """Raise `UsageError` for an entry whose fate is not known or is sealed."""
        if entry.state == LOST and not may_be_lost:
            raise UsageError(
                f"{entry.uid} was lost by the registry",
                hint=f"Queue it anew with: medperf queue resend {entry.uid}",
            )
        if entry.state == SENT:
            raise UsageError(f"{entry.uid} was sent already")
        if entry.state == SENDING:
            raise UsageError(
                f"{entry.uid} may have reached the registry: its answer was lost",
                hint="Find out with: medperf sync",
            )
