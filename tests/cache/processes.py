"""Run functions in processes of their own: as nobody, many at once, killed halfway."""

import multiprocessing
import os
from collections.abc import Callable
from multiprocessing.process import BaseProcess

NOBODY = 65534
# Children go on from here, with all that is imported: a user without rights may read no sources.
_fork = multiprocessing.get_context("fork")


def _as_nobody(action: Callable[[], None]) -> None:
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    action()


def start(action: Callable[[], None]) -> BaseProcess:
    """A process that runs `action`; its exit code is 0 unless that raises.

    SQLite does not survive a fork: what uses a store that the child uses too runs in a child.
    """
    process = _fork.Process(target=action)
    process.start()
    return process


def run_together(*actions: Callable[[], None], timeout: float = 60) -> None:
    """Run every action in a process of its own, at once. Fails unless all of them succeed."""
    processes = [start(action) for action in actions]
    for process in processes:
        process.join(timeout)
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
    assert codes == [0] * len(codes), "see the traceback on stderr"


def run_unprivileged(action: Callable[[], None]) -> None:
    """Run an action as a user whom permissions bind: nobody, if this is root."""
    run_together((lambda: _as_nobody(action)) if os.geteuid() == 0 else action)
