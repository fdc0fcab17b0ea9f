"""Locks between processes: held while a block runs, gone with the process that held them."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from medperf_cache.errors import InUse


def taken(descriptor: int, shared: bool = False, wait: bool = True) -> bool:
    """Lock an open file or folder until it is closed; false if another has it and nobody waits."""
    try:
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        fcntl.flock(descriptor, kind | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True


@contextmanager
def hold(file: Path, busy: str, shared: bool = False, wait: bool = True) -> Iterator[None]:
    """Hold a lock file (made if it is not there): `shared` with others who do, or alone.

    Raises `InUse`, saying that it is `busy`, if it cannot be had at once and `wait` is false.
    """
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if not taken(descriptor, shared, wait):
            raise InUse(busy)
        yield
    finally:
        os.close(descriptor)
