"""Several things at once, of which one may fail without the others."""

from collections.abc import Callable, Sequence
from threading import Thread
from typing import TypeVar

Result = TypeVar("Result")
AT_ONCE = 4


def at_once(jobs: Sequence[Callable[[], Result]]) -> list[Result | Exception]:
    """What each job returned or raised, in their order; a few run at a time.

    An interrupt is not kept waiting: what the jobs were doing ends with the process.
    """
    outcomes: dict[int, Result | Exception] = {}
    waiting = iter(list(enumerate(jobs)))

    def work() -> None:
        # A list's iterator gives each of its items to one thread.
        for number, job in waiting:
            try:
                outcomes[number] = job()
            except Exception as error:
                outcomes[number] = error

    threads = [Thread(target=work, daemon=True) for _ in range(min(AT_ONCE, len(jobs)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [outcomes[number] for number in range(len(jobs))]
