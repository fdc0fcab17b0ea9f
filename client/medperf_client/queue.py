"""A site's queue as its member sees it: provisional UIDs, and entities that wait."""

import re
import uuid
from typing import Any

from medperf_cache.outbox import QUEUED, REFERENCE, SENDING, SENT, Entry, Outbox
from medperf_client.errors import UsageError
from medperf_client.submissions import Reference, Submission

Entity = dict[str, Any]
PAIR = re.compile(r"/mlcubes/([^/]+)/benchmarks/([^/]+)/")


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

    def add(self, submission: Submission) -> Entry:
        """Queue a submission, behind those about the same association that still wait."""
        pair = _pair(submission.kind, submission.path, submission.body)
        before = [
            entry.uid
            for entry in self.waiting()
            if pair is not None and _pair(entry.kind, entry.path, entry.body) == pair
        ]
        return self.outbox.add(
            submission.kind,
            submission.method,
            submission.path,
            submission.body,
            submission.unknown,
            before,
        )

    def waiting(self) -> list[Entry]:
        """The entries that are not sent."""
        return [entry for entry in self.outbox.entries() if entry.state != SENT]

    def real_uid(self, uid: int | str) -> int | str:
        """The registry's UID for a provisional one, once there is one; all else as it is."""
        if isinstance(uid, int):
            return uid
        entry = self.entry(uid)
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
            raise UsageError(f"{uid} creates no {kind}", hint=f"See: medperf queue view {uid}")
        return self._entity(entry)

    def _entity(self, entry: Entry) -> Entity:
        _, body = entry.resolved(self.real_uid)
        waits = {"queued": entry.state, "unknown": entry.unknown, "reason": entry.reason}
        return {**body, "id": entry.uid, **{name: value for name, value in waits.items() if value}}

    def retry(self, uid: str) -> Entry:
        """Let a refused entry be sent again, as it is."""
        self._decided(self.entry(uid))
        return self.outbox.change(uid, state=QUEUED, reason="")

    def edit(self, uid: str, body: Entity) -> Entry:
        """Change what an entry says, and let it be sent again, as a new thing (a new key)."""
        entry = self.entry(uid)
        self._decided(entry)
        unknown = {field: url for field, url in entry.unknown.items() if not body.get(field)}
        return self.outbox.change(
            uid,
            body=body,
            unknown=unknown,
            key=str(uuid.uuid4()),
            state=QUEUED,
            attempts=0,
            reason="",
        )

    def drop(self, uid: str) -> list[Entry]:
        """Delete an entry and what depends on it; returns them all."""
        dropped = [self.entry(uid), *self.outbox.dependents(uid)]
        for entry in dropped:
            self._decided(entry)
        for entry in reversed(dropped):
            self.outbox.drop(entry.uid)
        return dropped

    @staticmethod
    def _decided(entry: Entry) -> None:
        """Raise `UsageError` for an entry whose fate is not known or is sealed."""
        if entry.state == SENT:
            raise UsageError(f"{entry.uid} was sent already")
        if entry.state == SENDING:
            raise UsageError(
                f"{entry.uid} may have reached the registry: its answer was lost",
                hint="Find out with: medperf sync",
            )


def _pair(kind: str, path: str, body: Entity) -> tuple[str, str] | None:
    """The model and benchmark that a submission about an association names."""
    if kind != "association":
        return None
    if match := PAIR.fullmatch(path):
        return match[1], match[2]
    named = []
    for field in ("model_mlcube", "benchmark"):
        value = body[field]
        named.append(f"{{{value[REFERENCE]}}}" if isinstance(value, dict) else str(value))
    return named[0], named[1]
