"""Several models: one after the other, some at a time on this machine, or as jobs of a queue."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from medperf_cache import CacheError, Storage
from medperf_client.errors import MedPerfError
from medperf_client.execution.parallel import as_done
from medperf_client.execution.steps import Perform, Watch
from medperf_client.execution.used import Used

if TYPE_CHECKING:
    from medperf_client.execution.plan import Plan
    from medperf_client.executors.executor import Executor
    from medperf_client.executors.following import Following
    from medperf_client.executors.local import Local

Made = TypeVar("Made")
# What concerns one model only: the others go on.
TROUBLE = (MedPerfError, CacheError, OSError)


@dataclass(frozen=True)
class Turn(Generic[Made]):
    """One of several models: how its steps are planned, and how what is asked for is made of them.

    Where `plan` or `make` raises what concerns this one only, `fail` gives what is made in place.
    Both find what steps took, as far as it was measured, once a `Perform` did them. `earlier` was
    made before, and counts. Where an element of a queue is to do the steps, `sent` is told its name
    before it is sent, and `over` once it is forgotten.
    """

    plan: "Callable[[], Plan]"
    make: Callable[[Perform | None, Sequence[Used]], Made]
    fail: Callable[[Exception, Sequence[Used]], Made]
    earlier: Made | None = None
    sent: Callable[[str], None] = lambda element: None
    over: Callable[[str], None] = lambda element: None

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

    One that fails costs only itself. What was sent before, by whomever was killed, is not sent
    again. Whoever stops in the midst of this, or does not `wait`, leaves the jobs to the queue. Why
    the queue takes nothing of what is left, or does not tell of it, is raised as `MedPerfError`;
    with `refused` that is told why, and each that is left fails.
    """
    executor = following.executor
    plans: dict[str, list[tuple[Turn[Made], Plan]]] = {}
    for turn in turns:
        try:
            plan = _prepared(storage, turn, executor)
        except TROUBLE as error:
            yield turn.fail(error, ())
            continue
        if plan is None:
            yield turn.taken(storage)
        else:
            turn.sent(plan.name)
            plans.setdefault(plan.name, []).append((turn, plan))
    labels = {name: these[0][1].label for name, these in plans.items()}
    try:
        for name, trouble in following.ended(labels, watch, wait):
            these = plans.pop(name)
            # What another process has just taken in is remembered.
            with executor.taking_in():
                made = [
                    turn.taken(
                        storage,
                        executor.collect(plan, trouble),
                        executor.used(name, [one.key for one in plan.planned]),
                    )
                    for turn, plan in these
                ]
            yield from made
            with executor.taking_in():
                executor.forget(name)
            for turn, _ in these:
                turn.over(name)
    except MedPerfError as error:
        if refused is None or not plans:
            raise
        refused(error)
        yield from (turn.fail(error, ()) for these in plans.values() for turn, _ in these)


def _prepared(storage: Storage, turn: Turn[Any], executor: "Executor") -> "Plan | None":
    """What of a turn is to be done, ready for the queue; None if there is nothing."""
    if turn.earlier is not None:
        return None
    with storage.in_use():
        plan = turn.plan()
        if not plan.planned:
            return None
        executor.prepare(plan)
    return plan
