"""Read, hash and write in the background, and have the disk take files while more comes."""

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

# Each may hold a chunk of a file in memory.
MOST_WAITING = 8
SETTLE_BYTES = 64 << 20
# Just below what glibc's M_MMAP_THRESHOLD may grow to, see mallopt(3).
LARGEST_KEPT_BYTES = 31 << 20


class Source(Protocol):
    """What can be read."""

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes, none at the end."""


class Ahead:
    """A source that is read before it is asked for, at most `MOST_WAITING` reads ahead."""

    def __init__(self, source: Source, executor: ThreadPoolExecutor) -> None:
        self._source, self._executor = source, executor
        self._coming: deque[Future[bytes]] = deque()

    def read(self, size: int) -> bytes:
        """What the source gives, or raises, for `size` bytes, which is the same in every call."""
        while len(self._coming) < MOST_WAITING:
            self._coming.append(self._executor.submit(self._source.read, size))
        # One that raised stays the next.
        data = self._coming[0].result()
        self._coming.popleft()
        return data


@contextmanager
def ahead(source: Source) -> Iterator[Ahead]:
    """An `Ahead` for the block, after which nothing is read any more."""
    with ThreadPoolExecutor(1) as executor:
        try:
            yield Ahead(source, executor)
        finally:
            executor.shutdown(wait=False, cancel_futures=True)


class _Thread:
    """Does what it is told in order, later; at most `MOST_WAITING` things wait."""

    def __init__(self, executor: ThreadPoolExecutor) -> None:
        self._executor = executor
        self._waiting: deque[Future[Any]] = deque()

    def do(self, action: Callable[..., Any], *arguments: Any) -> None:
        """Do something after all that came before. Raises what an earlier action raised."""
        while len(self._waiting) >= MOST_WAITING:
            self._waiting.popleft().result()
        self._waiting.append(self._executor.submit(action, *arguments))

    def finish(self) -> None:
        """Wait until all is done. Raises what an action raised."""
        while self._waiting:
            self._waiting.popleft().result()


class Background:
    """Appends to files; one thread hashes, one writes, and one waits for the disk.

    Every method raises what an earlier call could not do, such as `OSError` for a full disk.
    """

    def __init__(self, *executors: ThreadPoolExecutor) -> None:
        self._hashing, self._writing, self._settling = map(_Thread, executors)
        self._unsettled = 0

    def hash(self, digest: Any, data: bytes) -> None:
        """Update a digest of `hashlib`."""
        self._hashing.do(digest.update, data)

    def hashed(self, digest: Any) -> str:
        """The hexadecimal digits of a digest once all it was given to hash is in it."""
        self._hashing.finish()
        return str(digest.hexdigest())

    def write(self, file: Path, data: bytes) -> None:
        """Append to a file, which is made if it is not there."""
        self._writing.do(_append, file, data)
        self._unsettled += len(data)
        if self._unsettled > SETTLE_BYTES:
            self.settle(file)

    def settle(self, file: Path) -> None:
        """Have what was written to a file survive a power cut."""
        self._writing.do(self._settling.do, _sync, file)
        self._unsettled = 0

    def finish(self) -> None:
        """Wait until all is done."""
        self._writing.finish()
        self._settling.finish()


@contextmanager
def background() -> Iterator[Background]:
    """A `Background` for the block; what waits when the block raises is not done."""
    # glibc then keeps chunks that are freed; else it maps each anew, and the kernel clears it.
    bytes(LARGEST_KEPT_BYTES)
    with ExitStack() as stack:
        executors = [stack.enter_context(ThreadPoolExecutor(1)) for _ in range(3)]
        try:
            yield Background(*executors)
        except BaseException:
            for executor in executors:
                executor.shutdown(wait=False, cancel_futures=True)
            raise


def _append(file: Path, data: bytes) -> None:
    with open(file, "ab") as target:
        target.write(data)


def _sync(file: Path) -> None:
    with open(file, "rb") as target:
        os.fsync(target.fileno())
