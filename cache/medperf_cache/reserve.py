"""Some room that is held back, so that what makes room on a full disk has some to work in.

SQLite writes before it deletes: on a disk with nothing left even that fails which would free most.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from medperf_cache.scratch import remove_tree

# In each of two stores a log and its index, for a transaction that deletes.
FILES, FILE_BYTES = 4, 128 << 10
# Nothing is held back of what others may need at once.
PLENTY_BYTES = 1 << 20


class Reserve:
    """A folder of files that do nothing but take room. Processes may share it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files = [folder / str(number) for number in range(FILES)]

    def hold(self) -> None:
        """Hold room back, if there is plenty; nothing if it is held already."""
        with suppress(OSError):
            if not self._is_whole and shutil.disk_usage(self._folder.parent).free > PLENTY_BYTES:
                self._fill()

    @contextmanager
    def spent(self) -> Iterator[None]:
        """Let go of it for a block that makes room, and hold back again what is left after it."""
        was_held = self._folder.exists()
        remove_tree(self._folder)
        try:
            yield
        finally:
            if was_held:
                with suppress(OSError):
                    self._fill()

    @property
    def _is_whole(self) -> bool:
        last = self._files[-1]
        return last.exists() and last.stat().st_size == FILE_BYTES

    def _fill(self) -> None:
        """Bytes that no file system packs, as many as there is room for."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        for path in self._files:
            with open(path, "wb", buffering=0) as file:
                file.write(os.urandom(FILE_BYTES))
