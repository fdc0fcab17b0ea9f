"""The memory of this machine, shared out by the bounds that tasks have."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition


class Memory:
    """Has tasks wait for each other whose bounds, in bytes, are more than `whole` together."""

    def __init__(self, whole: int | None = None) -> None:
        self._whole = whole or os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        self._changed, self._free = Condition(), self._whole

    @contextmanager
    def taken(self, bound: int | None) -> Iterator[None]:
        """Wait for that much; one that may take more than there is runs alone with its like.

        A task without a bound waits for nobody.
        """
        wanted = min(bound or 0, self._whole)
        with self._changed:
            self._changed.wait_for(lambda: self._free >= wanted)
            self._free -= wanted
        try:
            yield
        finally:
            with self._changed:
                self._free += wanted
                self._changed.notify_all()
