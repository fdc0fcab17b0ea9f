"""Room on the folder that a cluster shares: what is full for a while costs nobody a run."""

import errno
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from medperf_client.errors import MedPerfError

FULL = (errno.ENOSPC, errno.EDQUOT)
# Bytes of a small file; and how long a job waits for room for one, trying so often.
SMALL, SECONDS, PAUSE_SECONDS = 1 << 16, 900, 2


def is_lacking(error: BaseException) -> bool:
    """Whether an error, or the one that it came from, says that there is no room."""
    found = error if isinstance(error, OSError) else error.__cause__
    return isinstance(found, OSError) and found.errno in FULL


def is_in(folder: Path) -> bool:
    """Whether there is room in a folder now. Raises `OSError` if it is not for want of that."""
    try:
        _need(folder)
    except OSError as error:
        if not is_lacking(error):
            raise
        return False
    return True


def is_blamed(said: str, folder: Path) -> bool:
    """Whether what failed in a folder may have failed for want of room, by its words too."""
    return any(os.strerror(one) in said for one in FULL) or not is_in(folder)


def wait_in(folder: Path) -> None:
    """Return once there is room in a folder. Raises as `insist` does."""
    insist(partial(_need, folder))


def insist(write: Callable[[], None]) -> None:
    """Write something; if there is no room for it, again until there is, for `SECONDS`.

    Raises what `write` does, in the end also for want of room.
    """
    patience = time.monotonic() + SECONDS
    while True:
        try:
            return write()
        except (MedPerfError, OSError) as error:
            if not is_lacking(error) or time.monotonic() > patience:
                raise
        time.sleep(PAUSE_SECONDS)


def _need(folder: Path) -> None:
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(bytes(SMALL))
