"""Send what waits in the outbox: in order of dependence, again after trouble, each thing once."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from heapq import heapify, heappop, heappush

from medperf_cache import CacheError, Catalog, UnsafeArchive
from medperf_cache.outbox import (
    QUEUED,
    REJECTED,
    SENDING,
    SENT,
    WAITING,
    WAITS,
    Entry,
    Outbox,
)
from medperf_client.errors import (
    MedPerfError,
    NotLoggedIn,
    Offline,
    Refused,
    TryLater,
    Unrecorded,
)
from medperf_client.exchange import plain
from medperf_client.exchange.conditions import in_words, is_met
from medperf_client.exchange.past import note
from medperf_client.kinds import Entity, described, kind_of, moment, named_in, sides_of
from medperf_client.registry.client import Registry
from medperf_client.transfer.backoff import pause

# Gives the body of a queued entry with what could not be known when it was queued, once the
# registry has the files that it needs.
Complete = Callable[[Entry], Entity]

# Why an entry may not leave the site as it is; empty if it may.
Held = Callable[[Entry], str]

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
    them; what is `held` waits until it may leave. `rest` waits for a number of seconds; it is
    `time.sleep` but for who has their own clock.
    """

    def __init__(
        self,
        outbox: Outbox,
        registry: Registry,
        catalog: Catalog,
        complete: Complete,
        acting: Callable[[], Entity],
        rest: Callable[[float], None] = time.sleep,
        held: Held = lambda entry: "",
    ) -> None:
        self._outbox, self._registry, self._catalog = outbox, registry, catalog
        self._complete, self._acting, self._rest = complete, acting, rest
        self._held = held
        # What the registry answered, by kind and UID: what was carried here is not in the catalog.
        self._answers: dict[tuple[str, int], Entity] = {}

    def send(self, only: str | None = None, look: Look = lambda: None) -> Sending:
        """Send every entry that can go, or `only` one and what it needs; `look` first.

        An entry that the registry refuses stays, with the registry's words, and so does what
        needs it. When the registry is away, or wants a login, all the rest waits. Two processes
        never send at once: the second waits until the first is done.
        """
        outcome = Sending()
        with self._outbox.alone():
            # What waits for something to be so is a reason to look, too.
            first = next(self._ready(only, ask=False), None)
            outcome.stopped = None if first is None else self._trouble(look)
            if first is not None and outcome.stopped:
                # What it waits for may be so by now, as far as is known here.
                due = self._asked(first, {})
                if due is not None:
                    self._outbox.update(due, reason=str(outcome.stopped))
                return outcome
            for entry in self._ready(only):
                # Where one thing failed again and again, others are not waited for as long.
                tries = TRIES if outcome.stopped is None else 1
                try:
                    if (sent := self._deliver(entry, tries)) is not None:
                        outcome.sent.append(sent)
                except (Offline, NotLoggedIn, Unrecorded) as error:
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

    def _ready(self, only: str | None, ask: bool = True) -> Iterator[Entry]:
        """Each entry whose time has come, as sending the others makes it come.

        Each is read when it is its turn; of the others no more than what changed meanwhile. Those
        whose condition is not met yet are left out, unless nobody is to `ask`.
        """
        outbox = self._outbox
        seen, _ = outbox.changed()
        known = outbox.entries() if only is None else outbox.family(only).values()
        wanted = None if only is None else {entry.uid for entry in known}
        # By their numbers: what was queued first goes first.
        due = [entry.number for entry in known if entry.state in WAITS]
        heapify(due)
        # By their keys: what was edited meanwhile is another thing.
        tried: set[str] = set()
        copies: dict[str, list[Entity]] = {}
        while due:
            entry = outbox.find(f"q{heappop(due)}")
            if entry is not None and entry.key not in tried and self._may_go(entry):
                chosen = self._asked(entry, copies) if ask else entry
                if chosen is not None:
                    tried.add(chosen.key)
                    yield chosen
                    # What is sent may be what another waits for.
                    copies.pop(chosen.kind, None)
            # Here, and in other processes. What was sent may be what others waited for.
            seen, changed = outbox.changed(seen)
            for one in changed:
                again = {one.uid}
                if one.state == SENT:
                    again |= outbox.needing(one.uid)
                if wanted is not None:
                    if one.uid in wanted and not one.needs <= wanted:
                        # It was edited, and needs others now.
                        again = wanted = wanted | outbox.family(one.uid).keys()
                    again &= wanted
                for uid in again:
                    heappush(due, int(uid[1:]))

    def _may_go(self, entry: Entry) -> bool:
        """Whether an entry waits for nothing but to be sent."""
        needs = map(self._outbox.find, entry.needs)
        return entry.state in WAITS and all(need is None or need.state == SENT for need in needs)

    def _asked(self, entry: Entry, copies: dict[str, list[Entity]]) -> Entry | None:
        """The entry, if what it waits for is so; else None, and it is stored that it waits.

        That is asked until it is first sent: of what may have arrived, the registry knows better.
        `copies` are the catalog's entities by kind, as far as they were read.
        """
        if entry.state == SENDING and entry.attempts:
            return entry
        reason = self._held(entry) or self._unmet(entry, copies)
        if not reason:
            if entry.state != WAITING:
                return entry
            return self._outbox.update(entry, state=QUEUED, reason="")
        # What was carried away may be on its way there.
        state = SENDING if entry.state == SENDING else WAITING
        if (state, reason) != (entry.state, entry.reason):
            self._outbox.update(entry, state=state, reason=reason)
        return None

    def _unmet(self, entry: Entry, copies: dict[str, list[Entity]]) -> str:
        """The condition that an entry waits for, in words; empty once it is so."""
        wanted = entry.condition(self._real_uid)
        if wanted is None:
            return ""
        kind = wanted["kind"]
        if kind not in copies:
            copies[kind] = self._known(kind)
        return "" if is_met(wanted, copies[kind]) else in_words(wanted)

    def _known(self, kind: str) -> list[Entity]:
        """The entities of a kind: the catalog's, and what was answered here and is newer."""
        found = {entity["id"]: entity for entity in self._catalog.all(kind)}
        for (one, uid), answer in self._answers.items():
            if one == kind and (uid not in found or moment(found[uid]) < moment(answer)):
                found[uid] = answer
        return list(found.values())

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
        if not self._keyed and kind.sides:
            entry = self._looked_up(entry, first)
        for left in range(tries - 1, -1, -1):
            claimed = self._claim(entry, me)
            if claimed is None:
                return None
            try:
                lost = entry.answer is not None
                answer = self._attempt(claimed, lost or entry.state == SENDING)
                break
            except (NotLoggedIn, Unrecorded):
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
        if "id" in answer:
            self._answers[entry.kind, answer["id"]] = answer
        if self._acting()["id"] == me:
            self._note(entry, answer, first and self._catalog.cursor == cursor)
        done = {"state": SENT, "reason": "", "answer": answer, "sent_day": self._outbox.today()}
        return self._outbox.change(entry.uid, **done)

    def _looked_up(self, entry: Entry, first: bool) -> Entry:
        """The entry about a pair, before it goes to a registry that knows no keys.

        To a change of what is not there such a registry may answer that it is broken, which would
        be tried again for ever: it is looked up, and raises `Refused`.
        """
        if entry.method == "POST" and not first:
            return entry
        path, body = entry.resolved(self._real_uid)
        known = plain.of_pair(self._registry, entry, path, body)
        if entry.method == "POST":
            return replace(entry, before=len(known))
        if not known:
            kind = kind_of(entry.kind)
            sides = dict(zip(kind.sides, sides_of(entry.kind, path, body), strict=True))
            raise Refused(f"the registry has no {described(entry.kind, sides)}")
        return entry

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
        kind = kind_of(entry.kind)
        if (may_have_arrived or kind.may_repeat) and not self._keyed:
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
        entry = self._outbox.find(uid)
        assert entry is not None and entry.real_uid is not None, f"{uid} is needed, and not sent"
        return entry.real_uid
