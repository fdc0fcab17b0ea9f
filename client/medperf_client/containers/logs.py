"""The log of a task: its beginning and its end, however much it writes."""

import os
import select
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from medperf_client.errors import ContainerFailed

HEAD_BYTES, TAIL_BYTES = 4 << 20, 4 << 20
# What a pipe holds, unless somebody asked for more.
PIPE_BYTES = 1 << 16


class BoundedLog:
    """A file that is written to like any other, and loses its middle where that is too long.

    It is in order at any time, so that it can be read while the task runs, and after a crash.
    """

    def __init__(self, path: Path, head: int = HEAD_BYTES, tail: int = TAIL_BYTES) -> None:
        self._file = path.open("w+b", buffering=0)
        self._head, self._tail = head, tail
        # Bytes in the file before the end that is kept of it, how many follow, and how many went.
        self._start, self._size, self._left_out = head, 0, 0

    def __enter__(self) -> "BoundedLog":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if self._size > self._start + self._tail:
                self._cut()
        finally:
            self._file.close()

    def write(self, chunk: bytes) -> None:
        """Add to it. Raises `OSError` where the disk is full."""
        self._put(chunk)
        # Seldom, so that what is kept is not written again for every line.
        if self._size > self._start + 2 * self._tail:
            self._cut()

    def _put(self, chunk: bytes) -> None:
        left = memoryview(chunk)
        while left:
            written = self._file.write(left)
            self._size += written
            left = left[written:]

    def _cut(self) -> None:
        """Leave out all but the beginning and the end, and say how much that was."""
        self._file.seek(-self._tail, 2)
        end = self._file.read(self._tail)
        self._left_out += self._size - self._start - self._tail
        note = f"\n... {self._left_out} bytes are left out here ...\n".encode()
        self._file.seek(self._head)
        self._size = self._head
        self._put(note)
        self._start = self._size
        self._put(end)
        self._file.truncate()


@contextmanager
def piped(path: Path) -> Iterator[int]:
    """A descriptor that leads to a bounded log, for a block that runs a program to its end.

    At the end of the block what was written is read, and nobody is waited for who took the
    descriptor along. Raises `ContainerFailed` if the log could not be written.
    """
    failed: list[OSError] = []
    reading, writing = os.pipe()
    stopped, stop = os.pipe()
    with BoundedLog(path) as log:
        pump = threading.Thread(target=_pump, args=(reading, stopped, log, failed), daemon=True)
        pump.start()
        try:
            yield writing
        finally:
            os.close(writing)
            os.close(stop)
            pump.join()
            os.close(stopped)
    if failed:
        raise ContainerFailed(f"the log {path} cannot be written: {failed[0].strerror}")


def _pump(reading: int, stopped: int, log: BoundedLog, failed: list[OSError]) -> None:
    """Take what comes to a log, until there is no more, or the other descriptor is at its end."""
    left, is_stopped = PIPE_BYTES, False
    try:
        while left > 0:
            ready = select.select([reading, stopped], [], [])[0]
            chunk = os.read(reading, PIPE_BYTES) if reading in ready else b""
            if not chunk:
                return
            is_stopped = is_stopped or stopped in ready
            left -= len(chunk) if is_stopped else 0
            log.write(chunk)
    except OSError as error:
        failed.append(error)
    finally:
        # Whoever still writes is told.
        os.close(reading)
