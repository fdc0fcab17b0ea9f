"""A site's queue as its member sees it: provisional UIDs, and entities that wait."""

import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from medperf_cache import CacheError
from medperf_cache.outbox import (
    LOST,
    QUEUED,
    REFERENCE,
    SENDING,
    SENT,
    SUPERSEDED,
    WAITING,
    Entry,
    Outbox,
    Reference,
    Subject,
)
from medperf_client.errors import MedPerfError, UsageError
from medperf_client.exchange.conditions import why
from medperf_client.kinds import Entity, kind_of, named_in, sides_of
from medperf_client.registry.bounds import check_bounds

if TYPE_CHECKING:  # To list what waits, what is submitted is not needed.
    from medperf_client.kinds.submission import Submission

UID = re.compile(r"q?[1-9][0-9]*")


def subject(entry: Entry) -> Subject:
    """The sides of the pair, or the entity that is changed, that an entry is about, by kinds."""
    kind = kind_of(entry.kind)
    path, body = entry.resolved(lambda uid: uid)
    if kind.sides:
        kinds = (kind.refers[side] for side in kind.sides)
        found = tuple(zip(kinds, sides_of(entry.kind, path, body), strict=True))
    else:
        found = tuple(named_in(path))[-1:] if entry.method == "PUT" else ()
    # What somebody edited may name anything.
    return found if all(UID.fullmatch(uid) for _, uid in found) else ()


class Queue:
    """The outbox, spoken to in UIDs: numbers are the registry's, q1 and so on are its own.

    `is_plain` tells whether the registry is known to be a plain MedPerf server. `look` sees what
    the registry has lost, so that a UID means here what it means in the catalog.
    """

    def __init__(
        self,
        outbox: Outbox,
        is_plain: Callable[[], bool] = lambda: False,
        look: Callable[[], None] = lambda: None,
    ) -> None:
        self.outbox, self._is_plain, self._look = outbox, is_plain, look
        # What had been found out of the registry's past when something was referred to.
        self._past: int | None = None

    def entry(self, uid: str) -> Entry:
        """An entry by its UID. Raises `UsageError` if there is none."""
        try:
            return self.outbox.get(uid)
        except CacheError as error:
            raise UsageError(str(error), hint="See: medperf queue ls") from None

    def add(self, submission: "Submission", member: int | str | None = None) -> Entry:
        """Queue a submission of a member, behind those about the same thing that wait.

        Or in the place of the last of them, see `Submission`; one that may have been sent is
        followed. Nothing can come in between: who sends it marks it before, in a transaction, too.
        Raises `CacheError` if it refers to an entry that was dropped meanwhile, `MedPerfError` if
        it is more than the registry takes, or if the registry turned out to have another past since
        something was referred to: then a UID may mean something else.
        """
        check_bounds(submission.body, self._is_plain)
        with self.outbox.transaction():
            if self._past not in (None, self.outbox.checked("catalog")):
                raise MedPerfError(
                    "nothing was queued: the registry was put back just now, which may move UIDs",
                    "Run the command again.",
                )
            entry = self.outbox.add(
                submission.kind,
                submission.method,
                submission.path,
                submission.body,
                submission.unknown,
                member=member,
                uploads=submission.uploads,
                until=submission.until,
                reason=why(submission.until),
            )
            ahead = self.outbox.ahead(entry)
            if ahead:
                entry = self.outbox.change(entry.uid, after=ahead)
            for uid in reversed(ahead if submission.supersedes else ()):
                if self._says_less(uid, entry):
                    return self.outbox.supersede(uid, entry.uid)
            return entry

    def _says_less(self, uid: str, later: Entry) -> bool:
        """Whether an entry about the same thing says nothing that a later one does not say."""
        entry = self.outbox.find(uid)
        return (
            entry is not None
            and entry.state in (QUEUED, WAITING)
            and self.outbox.needing(uid) <= {later.uid}
            and entry.body.keys() <= later.body.keys()
            # The association that is meant is no news of it.
            and (entry.method, entry.member, entry.body.get("id"))
            == (later.method, later.member, later.body.get("id"))
        )

    def waiting(self) -> list[Entry]:
        """The entries that are not sent, and are to be."""
        return [entry for entry in self.outbox.entries() if entry.state not in (SENT, SUPERSEDED)]

    def real_uid(self, uid: int | str) -> int | str:
        """The registry's UID for a provisional one, once there is one; all else as it is.

        Raises `UsageError` if there is no such entry, or it makes nothing that has one.
        """
        if isinstance(uid, int):
            return uid
        entry = self.outbox.find(uid) or self.entry(uid)
        if entry.method != "POST" or not kind_of(entry.kind).step:
            raise UsageError(f"{uid} creates nothing", hint=f"See: medperf queue view {uid}")
        return uid if entry.real_uid is None else entry.real_uid

    def reference(self, uid: int | str) -> Reference:
        """How a submission refers to an entity by UID, whether the registry has it yet or not."""
        self._look()
        self._past = self.outbox.checked("catalog")
        real = self.real_uid(uid)
        return real if isinstance(real, int) else {REFERENCE: real}

    def entities(self, kind: str) -> list[Entity]:
        """The entities of a type that wait to be created, with what `queued` says of them."""
        return [
            self._entity(entry)
            for entry in self.waiting()
            if (entry.kind, entry.method) == (kind, "POST")
        ]

    def changed(self, kind: str, entities: Iterable[Entity]) -> list[Entity]:
        """Entities of a kind as the changes that wait make them; `queued` says that some do."""
        changes: dict[tuple[str, str], Entity] = {}
        for entry in self.waiting():
            if (entry.kind, entry.method) == (kind, "PUT"):
                _, body = entry.resolved(self.real_uid)
                for about in self.outbox.subject(entry)[-1:]:
                    known = changes.setdefault(about, {})
                    known.update(body, queued=entry.state)
        return [{**one, **changes.get((kind, str(one["id"])), {})} for one in entities]

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
            entry = self.entry(uid)
            self._decided(entry, may_be_lost=False)
            return self._begun_again(entry)

    def take_back(self, uid: str) -> Entry:
        """Take one that may have reached the registry for not sent, on its member's word.

        Its key stays, so for the same member it happens once even if it has arrived. Waits while
        another process sends.
        """
        with self.outbox.alone(), self.outbox.transaction():
            entry = self.entry(uid)
            if entry.state != SENDING:
                # It turned out meanwhile what became of it.
                self._decided(entry, may_be_lost=False)
            return self._begun_again(entry)

    def _begun_again(self, entry: Entry) -> Entry:
        again = {"state": entry.begins, "reason": why(entry.until), "member": None}
        return self.outbox.change(entry.uid, **again)

    def edit(self, entry: Entry, body: Entity) -> Entry:
        """Change what an entry says, and let it be sent again, as a new thing (a new key).

        `entry` is as it was before. Raises `UsageError` if it is not so any more, or cannot be
        edited, `CacheError` if the new body refers to what it cannot, `MedPerfError` if it is more
        than the registry takes.
        """
        check_bounds(body, self._is_plain)
        now_at = {
            url: str(body.get(name) or "")
            for name, url in entry.body.items()
            if isinstance(url, str)
        }
        unknown = {
            field: now_at.get(url, url)
            for field, url in entry.unknown.items()
            if not body.get(field)
        }
        with self.outbox.transaction():
            now = self.entry(entry.uid)
            self._decided(now, may_be_lost=False)
            if now.body != entry.body:
                raise UsageError(f"{entry.uid} has changed meanwhile", hint="Edit it again.")
            waits = why(now.until)
            edited = self.outbox.renew(entry.uid, body=body, unknown=unknown, reason=waits)
            self.outbox.check(edited)
        return edited

    def drop(self, *uids: str) -> None:
        """Delete entries, all or none; what was sent only with what it needs.

        Raises `UsageError` if others depend on them.
        """
        uploads = False
        with self.outbox.transaction():
            for uid in uids:
                entry = self.entry(uid)
                if entry.state != SENT or entry.needs.isdisjoint(uids):
                    self._decided(entry)
                uploads |= bool(entry.uploads)
                others = {one.uid for one in self.outbox.dependents(uid)}.difference(uids)
                if others:
                    raise UsageError(
                        f"{', '.join(sorted(others))} came to depend on {uid} meanwhile",
                        hint="Look again: medperf queue ls",
                    )
            for uid in uids:
                self.outbox.drop(uid)
        if uploads:
            self.outbox.keep_no_more()

    @staticmethod
    def _decided(entry: Entry, may_be_lost: bool = True) -> None:
        """Raise `UsageError` for an entry whose fate is not known or is sealed."""
        if entry.state == LOST and not may_be_lost:
            raise UsageError(
                f"{entry.uid} was lost by the registry",
                hint=f"Queue it anew with: medperf queue resend {entry.uid}",
            )
        if entry.state == SUPERSEDED and not may_be_lost:
            raise UsageError(f"{entry.uid} is not sent any more: {entry.reason}")
        if entry.state == SENT:
            raise UsageError(f"{entry.uid} was sent already")
        if entry.state == SENDING:
            raise UsageError(
                f"{entry.uid} may have reached the registry: {entry.reason or 'no answer came'}",
                hint="Find out with medperf sync, or by the receipt of the bundle that carried it. "
                f"Where that cannot be: medperf queue retry {entry.uid}",
            )
