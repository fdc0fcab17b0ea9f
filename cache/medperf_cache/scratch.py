"""Private working folders on the cache's own file system, swept once their process is gone."""

import fcntl
import os
import shutil
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def remove_tree(path: Path) -> None:
    """Delete a folder, its read-only folders too. No error if it is gone already."""
    for folder, _, _ in os.walk(path):
        with suppress(OSError):
            os.chmod(folder, stat.S_IRWXU)
    shutil.rmtree(path, ignore_errors=True)


def _lock(folder: Path, wait: bool) -> int | None:
    """A descriptor that holds the folder's lock, or None if it is gone or held by another."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


@contextmanager
def scratch(area: Path) -> Iterator[Path]:
    """A new empty folder in `area` (mode 0700), deleted on leaving.

    It is locked while this process lives: `sweep` in another process leaves it alone.
    """
    area.mkdir(parents=True, exist_ok=True, mode=0o700)
    while True:
        folder = area / uuid.uuid4().hex
        folder.mkdir(mode=0o700)
        descriptor = _lock(folder, wait=True)
        # A sweep may have come between making the folder and locking it.
        if descriptor is not None and folder.exists():
            break
        if descriptor is not None:
            os.close(descriptor)
    try:
        yield folder
    finally:
        remove_tree(folder)
        os.close(descriptor)


def sweep(area: Path) -> int:
    """Delete the folders of processes that died; returns how many."""
    swept = 0
    for folder in area.iterdir() if area.is_dir() else ():
        descriptor = _lock(folder, wait=False)
        if descriptor is not None:
            remove_tree(folder)
            os.close(descriptor)
            swept += 1
    return swept
