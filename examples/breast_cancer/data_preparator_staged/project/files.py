"""Files that are whole or not there, whenever this process is killed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PART = ".part"


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Yield where to write a file, which is in its place after the block; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + PART)
    yield part
    os.replace(part, path)


def sweep(*folders: Path) -> None:
    """Delete what a process that was killed did not finish."""
    for folder in folders:
        for part in folder.rglob(f"*{PART}"):
            if part.is_file():
                part.unlink()
