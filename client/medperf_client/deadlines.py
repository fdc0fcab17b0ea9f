"""What takes too long is stopped from another thread, which is gone when the block is left."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def deadline(seconds: float | None, stop: Callable[[], None]) -> Iterator[threading.Event]:
    """Call `stop` from another thread after `seconds`, unless the block ends before.

    Yields an event that is set when it was called.
    """
    expired = threading.Event()

    def expire() -> None:
        expired.set()
        stop()

    timer = threading.Timer(seconds, expire) if seconds is not None else None
    if timer is not None:
        timer.daemon = True
        timer.start()
    try:
        yield expired
    finally:
        if timer is not None:
            timer.cancel()
            # `stop` may be running; what it stops must not be another's by the time it does.
            timer.join()


class Pace:
    """How fast bytes come, by the time that is spent on waiting for them.

    `missed` is set once `least` bytes took longer than `seconds` of it. What is done with the bytes
    in between takes what it takes: the disk may be slower than the host.
    """

    def __init__(self, seconds: float, least: float) -> None:
        self._seconds, self._least = seconds, least
        self._left, self._missing = seconds, least
        self._expires: float | None = None
        self.missed, self._done = threading.Event(), threading.Event()

    def wait_for(self, read: Callable[[], bytes]) -> bytes:
        """What `read` returns, and count it."""
        self._expires = time.monotonic() + self._left
        try:
            chunk = read()
        finally:
            self._left, self._expires = self._expires - time.monotonic(), None
        self._missing -= len(chunk)
        if self._missing <= 0:
            self._left, self._missing = self._seconds, self._least
        return chunk

    @contextmanager
    def kept(self, stop: Callable[[], None]) -> Iterator["Pace"]:
        """For a block, call `stop` from another thread when it is missed."""
        watching = threading.Thread(target=self._watch, args=(stop,), daemon=True)
        watching.start()
        try:
            yield self
        finally:
            self._done.set()
            watching.join()

    def _watch(self, stop: Callable[[], None]) -> None:
        pause = self._seconds
        while not self._done.wait(pause):
            expires = self._expires
            left = self._seconds if expires is None else expires - time.monotonic()
            if left <= 0:
                self.missed.set()
                stop()
                return
            # Looked at again in time for a wait that begins meanwhile with little left.
            pause = min(left, self._seconds / 10)
