"""What has to outlive a power cut, what is open to its owner only, and what is full."""

import errno
import os
from pathlib import Path


def settle(path: Path) -> None:
    """Have the disk take a file, or a folder's names."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def made(folder: Path) -> Path:
    """The folder, which is there now, open to its owner only."""
    if not folder.is_dir():
        # `mkdir(parents=True)` gives those above it the mode that the process gives to all.
        made(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
        settle(folder.parent)
    return folder


def ground(folder: Path) -> Path:
    """A folder, or the one above it in which it would be made."""
    return next(path for path in (folder, *folder.parents) if path.exists())


def is_full(error: OSError) -> bool:
    """Whether a disk, or what its user may have of it, is used up."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
