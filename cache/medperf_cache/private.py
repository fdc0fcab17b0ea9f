"""What was made of a member's own data: private content, and results of steps.

Where something lies says that it is private. It appears there by one rename, so no crash leaves it
without its mark, and what looks after the cache (`Storage`) does not come here: `gc` removes
nothing of it, no bundle carries it, and no step on other data is answered with it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

from medperf_cache.blobs import BlobStore
from medperf_cache.disk import NO_PLACE, Store, open_store
from medperf_cache.memo import Memo
from medperf_cache.names import Names
from medperf_cache.scratch import scratch, sweep
from medperf_cache.trees import TreeStore


class Private:
    """Files, folders and results of steps that belong to one member, below a folder of their own.

    Processes may share it, as they share a `Storage`. Nothing here is removed but by who owns it.
    """

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()
        try:
            self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            # To find nothing there takes no folder, and who writes will be told.
            if error.errno not in NO_PLACE:
                raise
        self._incoming = self._root / "incoming"
        # What lies below it never changes.
        self.content = self._root / "content"
        self.blobs = BlobStore(self.content / "blobs", self._incoming)

    @cached_property
    def _index(self) -> Store:
        return open_store(self._root / "memo", durable=True)

    @cached_property
    def trees(self) -> TreeStore:
        """Folders by content."""
        return TreeStore(self.content / "trees", self._incoming, Names(self._index))

    @cached_property
    def memo(self) -> Memo:
        """Results of steps."""
        return Memo(self._index)

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """An empty folder on this file system, gone after the block."""
        with scratch(self._incoming) as folder:
            yield folder

    def sweep(self) -> int:
        """Delete the scratch folders of processes that died; returns how many."""
        return sweep(self._incoming)
