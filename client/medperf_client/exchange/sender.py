"""Send what waits in the outbox: in order of dependence, again after trouble, each thing once."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from medperf_cache import CacheError, Catalog, UnsafeArchive
from medperf_cache.outbox import QUEUED, REJECTED, SENDING, SENT, Entry, Outbox, with_needs
from medperf_client.errors import MedPerfError, NotLoggedIn, Offline, Refused, TryLater
from medperf_client.exchange import plain
from medperf_client.exchange.past import note
from medperf_client.kinds import Entity, kind_of, named_in
from medperf_client.registry.client import Registry
from medperf_client.transfer.backoff import pause

# Gives the body of a queued entry with what could not be known when it was queued, once the
# registry has the files that it needs.
Complete = Callable[[Entry], Entity]

# Learns, before anything is sent, whether what the queue refers to is still what it was.
Look = Callable[[], None]
TAKE_OVER_HINT = "Whose it is may log in and sync; to make it yours: medperf queue retry UID"
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

    `acting` tells which member the registry takes this for; what others queued here waits for
    them. `rest` waits for a number of seconds; it is `time.sleep` but for who has their own clock.
    """

    def __init__(
        self,
        outbox: Outbox,
        registry: Registry,
        catalog: Catalog,
        complete: Complete,
        acting: Callable[[], Entity],
        rest: Callable[[float], None] = time.sleep,
    ) -> None:
        self._outbox, self._registry, self._catalog = outbox, registry, catalog
        self._complete, self._acting, self._rest = complete, acting, rest

    def send(self, only: str | None = None, look: Look = lambda: None) -> Sending:
        """Send every entry that can go, or `only` one and what it needs; `look` first.

        An entry that the registry refuses stays, with the registry's words, and so does what
        needs it. When the registry is away, or wants a login, all the rest waits. Two processes
        never send at once: the second waits until the first is done.
        """
        outcome = Sending()
        with self._outbox.alone():
            first = next(self._ready(only), None)
            outcome.stopped = None if first is None else self._trouble(look)
            if first is not None and outcome.stopped:
                self._outbox.update(first, reason=str(outcome.stopped))
                return outcome
            for entry in self._ready(only):
                # Where one thing failed again and again, others are not waited for as long.
                tries = TRIES if outcome.stopped is None else 1
                try:
                    if (sent := self._deliver(entry, tries)) is not None:
                        outcome.sent.append(sent)
                except (Offline, NotLoggedIn) as error:
                    self._outbox.update(entry, reason=str(error))
                    outcome.stopped = outcome.stopped or error
                    # One that failed says nothing of the others, unless they are to wait, too.
                    if not isinstance(error, TryLater) or error.seconds is not None:
                        break
                except MedPerfError as error:
                    refused = self._outbox.update(entry, state=REJECTED, reason=str(error))
                    if refused is not None:
                        outcome.rejected.append(refused)
        return outcome

    def _trouble(self, look: Look) -> MedPerfError | None:
        """Why nothing can be sent now; None once the registry has answered, and was looked at."""
        try:
            # To a registry that is away nothing can be sent, completed or not.
            self._registry.hear()
            look()
        except MedPerfError as error:
            return error
        return None

    def _ready(self, only: str | None) -> Iterator[Entry]:
        """Each entry whose time has come, as sending the others makes it come."""
        # By their keys: what was edited meanwhile is another thing.
        tried: set[str] = set()
        while True:
            entries = {entry.uid: entry for entry in self._outbox.entries()}
            wanted = set(entries) if only is None else with_needs([only], entries)
            chosen = next(
                (
                    entry
                    for uid, entry in entries.items()
                    if uid in wanted
                    and entry.key not in tried
                    and entry.state in (QUEUED, SENDING)
                    and all(entries[need].state == SENT for need in entry.needs if need in entries)
                ),
                None,
            )
            if chosen is None:
                return
            tried.add(chosen.key)
            yield chosen

    def _deliver(self, entry: Entry, tries: int) -> Entry | None:
        """Send one entry until it is taken or refused; None if it was edited or dropped first.

        Raises when it has to wait, or is refused.
        """
        self._registry.hear()
        me = self._acting()["id"]
        if entry.member not in (None, me, self._registry.token_digest):
            raise TryLater(f"{entry.uid} was queued under another login", TAKE_OVER_HINT)
        kind = kind_of(entry.kind)
        if not self._keyed and kind.only_keyed(entry.body):
            raise Refused("this registry knows no private benchmarks: all its members would see it")
        if entry.unknown or entry.uploads:
            # Stored before it is sent: a key stands for one body.
            completed = self._outbox.update(entry, body=self._completed(entry), unknown={})
            if completed is None:
                return None
            entry = completed
        first, cursor = entry.state == QUEUED, self._catalog.cursor
        if first and not self._keyed and kind.sides and entry.method == "POST":
            known = plain.of_pair(self._registry, entry, *entry.resolved(self._real_uid))
            entry = replace(entry, before=len(known))
        for left in range(tries - 1, -1, -1):
            claimed = self._claim(entry, me)
            if claimed is None:
                return None
            try:
                answer = self._attempt(claimed, may_have_arrived=entry.state == SENDING)
                break
            except NotLoggedIn:
                self._outbox.update(entry, state=entry.state)
                raise
            except TryLater as error:
                if not left or (error.seconds or 0) > LONGEST_WAIT_SECONDS:
                    raise
                self._rest(pause(TRIES - left, FIRST_WAIT_SECONDS, error.seconds))
                self._registry.hear()
                entry, first = claimed, False
        # The catalog first: what the outbox says is sent is never sent again, and whether it stays
        # in the registry is for the catalog to find out.
        if self._acting()["id"] == me:
            self._note(entry, answer, first and self._catalog.cursor == cursor)
        done = {"state": SENT, "reason": "", "answer": answer, "sent_day": self._outbox.today()}
        return self._outbox.change(entry.uid, **done)

    def _note(self, entry: Entry, answer: Entity, is_newest: bool) -> None:
        """Let the catalog know what was sent, so that it expects to be told of it.

        Where somebody pulled meanwhile, it is not the newest: the catalog may be ahead of it.
        """
        if not kind_of(entry.kind).is_logged:
            # Of what no log tells, that of what it belongs to does.
            for kind, uid in named_in(entry.resolved(self._real_uid)[0]) if is_newest else ():
                self._catalog.doubt_one(kind, int(uid))
        elif "id" in answer:
            note(self._catalog, entry.kind, answer, is_newest)

    def _completed(self, entry: Entry) -> Entity:
        try:
            return self._complete(entry)
        except UnsafeArchive as error:
            raise Refused(str(error)) from error
        except (Offline, CacheError, OSError) as error:
            # A file host that is away, or a full disk: other entries need neither.
            raise TryLater(str(error)) from error

    def _claim(self, entry: Entry, member: int) -> Entry | None:
        """The entry, marked as one that may have arrived; None if it is not as it was any more."""
        claim = {"state": SENDING, "attempts": entry.attempts + 1, "member": member}
        return self._outbox.update(entry, **claim, before=entry.before)

    def _attempt(self, entry: Entry, may_have_arrived: bool) -> Entity:
        path, body = entry.resolved(self._real_uid)
        if may_have_arrived and not self._keyed:
            found = plain.arrived(self._registry, entry, path, body)
            if found is not None:
                return found
        write = self._registry.post if entry.method == "POST" else self._registry.put
        try:
            answer = write(path, body, entry.key)
        except NotLoggedIn:
            raise
        except Refused:
            # Perhaps because it is there: from an earlier try whose key is forgotten, or late.
            found = plain.arrived(self._registry, entry, path, body) if may_have_arrived else None
            if found is None:
                raise
            return found
        kind = kind_of(entry.kind)
        if kind.sides and isinstance(answer, dict) and "approval_status" in answer:
            # A plain MedPerf server may say no more; the next pull lists it.
            return answer
        return kind.checked(answer)

    @property
    def _keyed(self) -> bool:
        """Whether the registry knows idempotency keys."""
        # Who has read its change log needs not ask.
        return self._catalog.cursor > 0 or self._registry.knows_keys

    def _real_uid(self, uid: str) -> int:
        real = self._outbox.get(uid).real_uid
        assert real is not None, f"{uid} was chosen before what it needs was sent"
        return real
