"""What one of all threads of a process shall do, once in a while."""

import time
from threading import Lock


class Turns:
    """Whose turn it is; one thread's at a time, and then nobody's for so many seconds."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self._lock, self._next = seconds, Lock(), 0.0

    def is_next(self) -> bool:
        """Whether it is the caller's turn."""
        with self._lock:
            now = time.monotonic()
            if now < self._next:
                return False
            self._next = now + self._seconds
            return True
