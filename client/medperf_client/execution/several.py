"""Several models: one after the other, some at a time on this machine, or as jobs of a queue."""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Generic, TypeVar

from medperf_cache import CacheError, Storage
from medperf_client.errors import ContainerFailed, InvalidContainer, MedPerfError
from medperf_client.execution.parallel import as_done
from medperf_client.execution.steps import Perform, Watch
from medperf_client.execution.used import Used

if TYPE_CHECKING:
    from medperf_client.execution.plan import Plan
    from medperf_client.executors.following import Following
    from medperf_client.executors.local import Local

Made = TypeVar("Made")
# What concerns one model only: the others go on. Some will be the same whenever it is tried.
TROUBLE = (MedPerfError, CacheError, OSError)
OF_THE_MODEL = (InvalidContainer, ContainerFailed)


@dataclass(frozen=True)
class Turn(Generic[Made]):
    """One of several models: how its steps are planned, and how what is asked for is made of them.

    Where `plan` or `make` raises what concerns this one only, `fail` gives what is made in place.
    Both find what steps took, as far as it was measured, once a `Perform` did them. `earlier` was
    made before, and counts. Where an element of a queue is to do the steps, `sent` is told its name
    before it is sent, and `over` once it is forgotten; `left` has the names of those between.
    `in_one` is the plan without parts, for one that was sent before there were to be some.
    """

    plan: "Callable[[], Plan]"
    make: Callable[[Perform | None, Sequence[Used]], Made]
    fail: Callable[[Exception, Sequence[Used]], Made]
    earlier: Made | None = None
    sent: Callable[[str], None] = lambda element: None
    over: Callable[[str], None] = lambda element: None
    left: Callable[[], Collection[str]] = tuple
    in_one: "Callable[[], Plan] | None" = None

    def taken(
        self,
        storage: Storage,
        perform: Perform | None = None,
        used: Sequence[Used] = (),
        slot: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> Made:
        """What comes of it: its steps are done by `perform`, or in this process."""
        if self.earlier is not None:
            return self.earlier
        try:
            with storage.in_use(), slot():
                return self.make(perform, used)
        except TROUBLE as error:
            return self.fail(error, used)


def take(
    storage: Storage, turns: Sequence[Turn[Made]], executor: "Local | None" = None
) -> Iterator[Made]:
    """Take each turn in order; one that fails costs only itself.

    An `executor` takes several at a time, and what they make comes as it is made.
    """
    if executor is None:
        yield from (turn.taken(storage) for turn in turns)
        return

    def taken(turn: Turn[Made]) -> Made:
        used: list[Used] = []
        return turn.taken(storage, partial(executor.perform, note=used.append), used, executor.slot)

    with executor:
        for _, ended in as_done([partial(taken, turn) for turn in turns], executor.slots):
            if isinstance(ended, Exception):
                raise ended
            yield ended


def take_queued(
    storage: Storage,
    turns: Sequence[Turn[Made]],
    following: "Following",
    watch: Watch,
    wait: bool = True,
    refused: Callable[[MedPerfError], None] | None = None,
) -> Iterator[Made]:
    """Have the steps of each turn done by a job of a queue; what they make comes as it is made.

    One that fails costs only itself. One that is planned in parts has a job for each, and one more
    for what follows them. What was sent before, by whomever was killed, is not sent again. Whoever
    stops in the midst of this, or does not `wait`, leaves the jobs to the queue. Why the queue
    takes nothing of what is left, or does not tell of it, is raised as `MedPerfError`; with
    `refused` that is told why, and each that is left fails.
    """
    queued = _InQueue[Made](storage, following)
    for turn in turns:
        yield from queued.begin(_Going(turn))
    try:
        for name, trouble in following.ended(queued.labels, watch, wait):
            yield from queued.ended(name, trouble)
    except MedPerfError as error:
        left = queued.left()
        if refused is None or not left:
            raise
        refused(error)
        yield from (one.turn.fail(error, one.used) for one in left)


class _Going(Generic[Made]):
    """A turn on its way: what the queue does for it now, by name, and what that has taken so far.

    That is all of it, or `in_parts` the parts that come first. What `ended` is not forgotten yet:
    the last of them, and those that failed with `error`, of which who comes later is to know, too.
    """

    def __init__(self, turn: Turn[Made]) -> None:
        self.turn = turn
        self.plans: dict[str, Plan] = {}
        self.in_parts = False
        self.ended: set[str] = set()
        self.used: list[Used] = []
        self.error: Exception | None = None


class _InQueue(Generic[Made]):
    """The elements of several turns, each with those that want it."""

    def __init__(self, storage: Storage, following: "Following") -> None:
        self._storage, self._following = storage, following
        self._executor = following.executor
        self._wanted: dict[str, list[_Going[Made]]] = {}
        self.labels: dict[str, str] = {}

    def begin(self, going: _Going[Made]) -> Iterator[Made]:
        """Have what is to be done next ready for the queue; what is made where that is nothing."""
        turn = going.turn
        try:
            if turn.earlier is None:
                with self._storage.in_use():
                    for plan in self._next_of(going):
                        self._executor.prepare(plan)
                        turn.sent(plan.name)
                        going.plans[plan.name] = plan
        except TROUBLE as error:
            going.error = error
        for name, plan in going.plans.items():
            self._wanted.setdefault(name, []).append(going)
            self.labels[name] = plan.label
            self._following.add(name, plan.label)
        if not going.plans:
            yield self._made(going)
            # What cannot be sent now may be another time: until then all stays as it is.
            if going.error is None or isinstance(going.error, OF_THE_MODEL):
                self._release(going, {*going.ended, *turn.left()})
        elif going.error is None:
            # Such as other parts, of another number of cases.
            self._release(going, {*going.ended, *turn.left()} - going.plans.keys())

    def ended(self, name: str, trouble: MedPerfError | None) -> Iterator[Made]:
        """Take in what an element gave to those that want it; what they make of it."""
        these = self._wanted.pop(name)
        # What another process has just taken in is remembered.
        with self._executor.taking_in():
            made = [one for going in these for one in self._taken(going, name, trouble)]
        yield from made
        for going in these:
            if going.in_parts and going.plans:
                self._release(going, going.ended if going.error is None else ())
            elif going.in_parts and going.error is None:
                # The last part is forgotten after that: who is killed meanwhile finds it again.
                yield from self.begin(going)
            else:
                if going.in_parts:
                    yield self._made(going)
                self._release(going, {*going.ended, *going.turn.left()})

    def left(self) -> list[_Going[Made]]:
        """The turns that are not made yet."""
        return list(dict.fromkeys(going for these in self._wanted.values() for going in these))

    def _taken(
        self, going: _Going[Made], name: str, trouble: MedPerfError | None
    ) -> Iterator[Made]:
        plan = going.plans.pop(name)
        going.ended.add(name)
        perform = self._executor.collect(plan, trouble)
        going.used += self._executor.used(name, [one.key for one in plan.planned])
        if not going.in_parts:
            yield going.turn.taken(self._storage, perform, going.used)
            return
        try:
            with self._storage.in_use():
                plan.take_in(perform)
        except TROUBLE as error:
            # The others go on: what they give is remembered.
            going.error = going.error or error

    def _made(self, going: _Going[Made]) -> Made:
        if going.error is not None:
            return going.turn.fail(going.error, going.used)
        return going.turn.taken(self._storage, used=going.used)

    def _release(self, going: _Going[Made], names: Collection[str]) -> None:
        """Forget elements of a turn that nobody here wants any more; end their jobs, if need be."""
        unwanted = [one for one in names if one not in self._wanted]
        live = [one for one in unwanted if not self._executor.is_over(one)]
        # What cannot be ended now does what nobody takes in.
        with suppress(MedPerfError):
            if any(map(self._executor.has, live)):
                self._executor.cancel(live)
        if unwanted:
            with self._executor.taking_in():
                for one in unwanted:
                    self._executor.forget(one)
        for one in names:
            going.turn.over(one)
        going.ended.difference_update(names)

    def _next_of(self, going: _Going[Made]) -> "list[Plan]":
        """What of a turn is to be done next, which is nothing if all is remembered."""
        # Imported late: what runs on this machine plans nothing.
        from medperf_client.execution.plan import PartsFirst

        try:
            plan, going.in_parts = going.turn.plan(), False
        except PartsFirst as first:
            whole = going.turn.in_one() if going.turn.in_one else None
            if whole is None or not self._executor.is_under_way(whole.name):
                going.in_parts = True
                return list(first.plans)
            plan, going.in_parts = whole, False
        return [plan] if plan.planned else []
