"""A site's cache as a whole: its parts under one folder, checked and cleaned together."""

import errno
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medperf_cache.blobs import BlobStore
from medperf_cache.digests import stored
from medperf_cache.disk import NO_PLACE, Store, open_store
from medperf_cache.errors import CorruptContent, InUse, NotWritable
from medperf_cache.images import ImageStore
from medperf_cache.locks import taken
from medperf_cache.memo import Memo
from medperf_cache.names import Names
from medperf_cache.partials import Partials
from medperf_cache.pins import Pins
from medperf_cache.scratch import scratch, sweep, temporary
from medperf_cache.trees import TreeStore

# Who finds all in the cache itself does not pay for what looks elsewhere.
if TYPE_CHECKING:
    from medperf_cache.fingerprints import Fingerprints
    from medperf_cache.shared import SharedCaches

# Called with (what, bytes so far, bytes in all or None) while something long goes on.
Progress = Callable[[str, int, int | None], None]


@dataclass(frozen=True)
class Item:
    """One thing the cache holds: `kind` is blob or tree, `used` the time of last use (Unix).

    `pins` names what it is kept for.
    """

    kind: str
    digest: str
    size_bytes: int
    used: float
    pins: tuple[str, ...] = ()


def _size(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(
        os.lstat(os.path.join(folder, name)).st_size
        for folder, _, files in os.walk(path)
        for name in files
    )


class Storage:
    """Blobs, trees, images, memo and fingerprints of one site. All of it can be rebuilt.

    What is not here is looked for in `shared` caches, which others keep. `tell` gets a line for
    people where one of them cannot be used, `progress` hears how far it is read. Before those comes
    a cache `beneath`, which is this site's own, too, and can only be read.
    """

    def __init__(
        self,
        root: Path,
        shared: Sequence[Path] = (),
        tell: Callable[[str], None] = lambda line: None,
        progress: Progress = lambda what, done, total: None,
        beneath: "Storage | None" = None,
    ) -> None:
        self.root = root = root.resolve()
        self._shared, self._tell, self._progress = tuple(shared), tell, progress
        self._beneath = beneath
        try:
            root.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            # To find nothing there takes no folder, and who writes will be told.
            if error.errno not in NO_PLACE:
                raise
        self._incoming = root / "incoming"
        self.blobs = BlobStore(root / "blobs", self._incoming, partial(self._elsewhere, "blob"))

    @property
    def is_writable(self) -> bool:
        """Whether anything can be stored here, if there is room."""
        return os.access(self.root, os.W_OK | os.X_OK)

    @cached_property
    def _index(self) -> Store:
        return open_store(self.root / "memo")

    @cached_property
    def trees(self) -> TreeStore:
        """Folders by content."""
        elsewhere = partial(self._elsewhere, "tree")
        return TreeStore(self.root / "trees", self._incoming, self.names, elsewhere)

    @cached_property
    def images(self) -> ImageStore:
        """Copies of images; their parts are blobs."""
        return ImageStore(self.blobs, self.names, self._said, self._tell)

    @cached_property
    def shared(self) -> "SharedCaches":
        """The caches of others that this one looks in."""
        from medperf_cache.shared import SharedCaches

        return SharedCaches(self._shared, lambda: self.fingerprints, self._tell, self._progress)

    def _elsewhere(self, kind: str, digest: str) -> Path | None:
        found = self._beneath.find(kind, digest) if self._beneath else None
        return found or (self.shared.find(kind, digest) if self._shared else None)

    def find(self, kind: str, digest: str) -> Path | None:
        """Where a blob or a tree lies, here or elsewhere; None if it is not to be had."""
        return (self.blobs if kind == "blob" else self.trees).find(digest)

    def keeps(self, path: Path) -> bool:
        """Whether a path lies in this site's own cache, where nothing changes what is there."""
        return path.is_relative_to(self.root) or (
            self._beneath is not None and self._beneath.keeps(path)
        )

    @contextmanager
    def stand_in(self) -> Iterator["Storage"]:
        """For a block, a cache with all that this one has, where this one can only be read.

        What is stored in it lies in the temporary folder, and goes with the block.
        """
        with self.in_use(), temporary() as folder:
            # The folder itself is locked by this process, as a cache is by who works with it.
            root = folder / "cache"
            root.mkdir(mode=0o700)
            self._index.copy_to(root / "memo")
            yield Storage(root, self._shared, self._tell, self._progress, Storage(self.root))

    def _said(self, digest: str) -> Iterator[tuple[str, str]]:
        return self.shared.copies(digest) if self._shared else iter(())

    @cached_property
    def pins(self) -> Pins:
        """What `gc` leaves alone."""
        return Pins(self._index)

    @cached_property
    def memo(self) -> Memo:
        """Results of steps."""
        return Memo(self._index)

    @cached_property
    def fingerprints(self) -> "Fingerprints":
        """Remembered digests of local files."""
        from medperf_cache.fingerprints import Fingerprints

        return Fingerprints(self._index)

    @cached_property
    def names(self) -> Names:
        """Digests by name, such as what a URL held."""
        return Names(self._index)

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """An empty private folder on this file system, gone after the block."""
        with scratch(self._incoming) as folder:
            yield folder

    @contextmanager
    def _work_area(self) -> Iterator[Path]:
        """Where work can be done that leaves nothing in the cache, for a block."""
        if self.is_writable:
            yield self._incoming
            return
        with temporary() as folder:
            yield folder

    def sweep(self) -> int:
        """Delete the scratch folders of processes that died; returns how many."""
        return sweep(self._incoming)

    @contextmanager
    def in_use(self, alone: bool = False) -> Iterator[None]:
        """Hold the cache: any number of users at once, or one `alone` who may delete.

        Raises `InUse` where `alone` and another process holds it; users wait for who is alone.
        """
        try:
            # The folder itself: a full disk has no room for a file to lock.
            descriptor = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            if error.errno not in (*NO_PLACE, errno.ENOENT):
                raise
            # There is nothing to delete, or nobody who may.
            yield
            return
        try:
            if not taken(descriptor, shared=not alone, wait=not alone):
                raise InUse("another medperf process is working with the cache")
            yield
        finally:
            os.close(descriptor)

    def items(self) -> Iterator[Item]:
        """What is stored, with sizes, times of last use and pins."""
        pins = self.pins.names()
        for kind in ("blob", "tree"):
            for path in stored(self.root / f"{kind}s"):
                # Another process may be removing it.
                with suppress(FileNotFoundError):
                    names = tuple(pins.get((kind, path.name), ()))
                    yield Item(kind, path.name, _size(path), path.stat().st_mtime, names)

    def size(self, kind: str, digest: str) -> int:
        """How many bytes a blob or a tree has, also in a shared cache; 0 if it is not to be had."""
        path = self.find(kind, digest)
        return _size(path) if path else 0

    def verify(self) -> Iterator[CorruptContent]:
        """Read everything again, and derive what is derived; yields what is not as it should be."""
        with self.in_use(), self._work_area() as area:
            yield from self.blobs.verify()
            yield from self.trees.verify()
            yield from self.trees.verify_unpacked(self.blobs, area)
            yield from self.images.verify()

    def discard(self, finding: CorruptContent) -> None:
        """Have what `verify` found count no more."""
        if finding.kind == "name":
            self.names.forget(finding.name)
        else:
            self.remove(finding.kind, finding.expected)

    def remove(self, kind: str, digest: str) -> None:
        """Delete a blob or a tree; steps that need it run again."""
        (self.blobs if kind == "blob" else self.trees).remove(digest)

    def gc(
        self, unused_for_seconds: float | None = None, most_bytes: int | None = None
    ) -> list[Item]:
        """Delete what was not used for that long, then the least recently used until no more than
        `most_bytes` are left; and what dead processes left. Returns what was deleted.

        What is pinned stays, so that more than `most_bytes` may be left. Raises `InUse` if another
        process is working with the cache. It needs no room on a full disk.
        """
        with self.in_use(alone=True):
            self.sweep()
            self.trees.sweep()
            if unused_for_seconds is not None:
                Partials(self.root, self.blobs).clean(unused_for_seconds)
            items = sorted(self.items(), key=lambda item: item.used)
            oldest = 0.0 if unused_for_seconds is None else time.time() - unused_for_seconds
            left = sum(item.size_bytes for item in items)
            removed = []
            for item in items:
                too_much = most_bytes is not None and left > most_bytes
                if not item.pins and (item.used < oldest or too_much):
                    self.remove(item.kind, item.digest)
                    left -= item.size_bytes
                    removed.append(item)
            # What is remembered of what is gone does no harm until there is room to forget it.
            with suppress(NotWritable, sqlite3.OperationalError):
                self.memo.drop_unless(self._complete)
                places = self.shared.places if self._shared else ()
                self.fingerprints.forget_missing(places)
            return removed

    def _complete(self, record: dict[str, Any]) -> bool:
        return all(
            digest in (self.blobs if kind == "file" else self.trees)
            for kind, digest in record["outputs"].values()
        )
