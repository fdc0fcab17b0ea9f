"""Send what waits in the outbox: in order of dependence, again after trouble, each thing once."""

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from medperf_cache import Catalog
from medperf_cache.outbox import QUEUED, REJECTED, SENDING, SENT, Entry, Outbox
from medperf_client.errors import MedPerfError, NotLoggedIn, Offline, TryLater
from medperf_client.registry import Registry
from medperf_client.wire import checked

Entity = dict[str, Any]
# Gives a queued container or benchmark with what could not be known when it was queued.
Complete = Callable[[Entry], Entity]

TRIES = 4
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.5, 30.0


@dataclass
class Sending:
    """What became of the entries: `sent` and `rejected` ones; `stopped` says why others wait."""

    sent: list[Entry] = field(default_factory=list)
    rejected: list[Entry] = field(default_factory=list)
    stopped: MedPerfError | None = None


class Sender:
    """Sends one site's outbox to its registry.

    `rest` waits for a number of seconds; it is `time.sleep` but for who has a clock of their own.
    """

    def __init__(
        self,
        outbox: Outbox,
        registry: Registry,
        catalog: Catalog,
        complete: Complete,
        rest: Callable[[float], None] = time.sleep,
    ) -> None:
        self._outbox, self._registry, self._catalog = outbox, registry, catalog
        self._complete, self._rest = complete, rest

    def send(self, only: str | None = None) -> Sending:
        """Send every entry that can go, or `only` one and what it needs.

        An entry that the registry refuses stays, with the registry's words, and so does what
        needs it. When the registry is away, or wants a login, all the rest waits. Two processes
        never send at once: the second waits until the first is done.
        """
        outcome = Sending()
        with self._outbox.alone():
            for entry in self._ready(only):
                try:
                    outcome.sent.append(self._deliver(entry))
                except (Offline, NotLoggedIn) as error:
                    self._outbox.change(entry.uid, reason=str(error))
                    outcome.stopped = error
                    # A busy registry or an absent file host says nothing of the other entries.
                    if not isinstance(error, TryLater):
                        break
                except MedPerfError as error:
                    changed = self._outbox.change(entry.uid, state=REJECTED, reason=str(error))
                    outcome.rejected.append(changed)
        return outcome

    def _ready(self, only: str | None) -> Iterator[Entry]:
        """Each entry whose time has come, as sending the others makes it come."""
        tried: set[str] = set()
        while True:
            entries = {entry.uid: entry for entry in self._outbox.entries()}
            wanted = set(entries) if only is None else _closure(only, entries)
            chosen = next(
                (
                    entry
                    for uid, entry in entries.items()
                    if uid in wanted - tried
                    and entry.state in (QUEUED, SENDING)
                    and all(entries[need].state == SENT for need in entry.needs if need in entries)
                ),
                None,
            )
            if chosen is None:
                return
            tried.add(chosen.uid)
            yield chosen

    def _deliver(self, entry: Entry) -> Entry:
        """Send one entry until it is taken or refused; raises when it has to wait."""
        if entry.unknown:
            # Stored before it is sent: a key stands for one body.
            entry = self._outbox.change(entry.uid, body=self._complete(entry), unknown={})
        for left in range(TRIES - 1, -1, -1):
            try:
                answer = self._attempt(entry)
                break
            except TryLater as error:
                if not left or (error.seconds or 0) > LONGEST_WAIT_SECONDS:
                    raise
                self._rest(_wait(TRIES - 1 - left, error.seconds))
                entry = self._outbox.get(entry.uid)
        # The outbox first: what it says is sent is never sent again, and a sync mends the catalog.
        entry = self._outbox.change(entry.uid, state=SENT, reason="", answer=answer)
        if "id" in answer:
            self._catalog.put(entry.kind, answer)
        return entry

    def _attempt(self, entry: Entry) -> Entity:
        path, body = entry.resolved(self._real_uid)
        may_have_arrived = entry.state == SENDING
        # From here on nobody can say that it did not arrive.
        self._registry.reach()
        self._outbox.change(entry.uid, state=SENDING, attempts=entry.attempts + 1)
        if may_have_arrived and not self._registry.knows_keys:
            found = _arrived(self._registry, entry.kind, entry.method, path, body)
            if found is not None:
                return found
        write = self._registry.post if entry.method == "POST" else self._registry.put
        answer = write(path, body, entry.key)
        if entry.kind == "association" and isinstance(answer, dict) and "id" not in answer:
            # A plain MedPerf server may say no more; the next pull lists it.
            return answer
        return checked(entry.kind, answer)

    def _real_uid(self, uid: str) -> int:
        real = self._outbox.get(uid).real_uid
        assert real is not None, f"{uid} was chosen before what it needs was sent"
        return real


def _closure(uid: str, entries: dict[str, Entry]) -> set[str]:
    """An entry and everything it needs, directly or through others."""
    found: set[str] = set()
    waiting = [uid]
    while waiting:
        chosen = waiting.pop()
        if chosen in entries and chosen not in found:
            found.add(chosen)
            waiting += entries[chosen].needs
    return found


def _wait(failures: int, asked: float | None) -> float:
    """Seconds before the next try: what the registry asked for, else exponential with jitter.

    Full jitter, as in "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015), so that a
    consortium's sites do not come back all at once.
    """
    if asked is not None:
        return asked
    return random.uniform(0.1, 1) * FIRST_WAIT_SECONDS * 2.0**failures


def _arrived(registry: Registry, kind: str, method: str, path: str, body: Entity) -> Entity | None:
    """What an earlier try made on a server that knows no keys, told by what is unique about it."""
    if kind == "association":
        pair = (body.get("model_mlcube"), body.get("benchmark"))
        where = f"/mlcubes/{pair[0]}/benchmarks/{pair[1]}/" if method == "POST" else path
        found = registry.get(where) or []
        newest = max(found, key=lambda one: str(one.get("created_at")), default=None)
        told = [name for name in ("approval_status", "priority") if name in body]
        same = newest is not None and all(newest.get(name) == body[name] for name in told)
        return dict(newest) if newest is not None and same else None
    if method == "PUT":
        entity: Entity | None = registry.get(path)
        same = entity is not None and all(entity.get(name) == body[name] for name in body)
        return entity if same else None
    own = "/me/mlcubes/" if kind == "mlcube" else "/me/benchmarks/"
    return next((entity for entity in registry.pages(own) if entity["name"] == body["name"]), None)
