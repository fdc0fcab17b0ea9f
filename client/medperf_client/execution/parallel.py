"""Several things at once, of which one may fail without the others."""

from collections.abc import Callable, Iterator, Sequence
from queue import SimpleQueue
from threading import RLock, Thread
from typing import ParamSpec, TypeVar

Given = ParamSpec("Given")
Result = TypeVar("Result")
AT_ONCE = 4


def at_once(jobs: Sequence[Callable[[], Result]]) -> list[Result | Exception]:
    """What each job returned or raised, in their order; a few run at a time."""
    outcomes = dict(as_done(jobs, AT_ONCE))
    return [outcomes[number] for number in range(len(jobs))]


def as_done(
    jobs: Sequence[Callable[[], Result]], most: int
) -> Iterator[tuple[int, Result | Exception]]:
    """The number of each job, and what it returned or raised, as they end; `most` run at a time.

    An interrupt is not kept waiting: what the jobs were doing ends with the process.
    """
    done: SimpleQueue[tuple[int, Result | Exception]] = SimpleQueue()
    waiting = iter(list(enumerate(jobs)))

    def work() -> None:
        # A list's iterator gives each of its items to one thread.
        for number, job in waiting:
            try:
                done.put((number, job()))
            except Exception as error:
                done.put((number, error))

    for _ in range(min(most, len(jobs))):
        Thread(target=work, daemon=True).start()
    for _ in jobs:
        yield done.get()


def one_at_a_time(function: Callable[Given, Result]) -> Callable[Given, Result]:
    """The same for several threads, of which one calls it at a time."""
    one = RLock()

    def alone(*args: Given.args, **options: Given.kwargs) -> Result:
        with one:
            return function(*args, **options)

    return alone
