"""Digests by name: what a URL held, what an archive was unpacked to.

Some names are derived from content, and can be derived again: what an archive unpacks to, which
recipe makes up an image, what an image was converted to. Nobody else's word for them is taken. What
a URL held, which image had a name, or which one an engine knew by a digest, is somebody's
observation, and as good as who made it.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # Who settles what a container wrote opens no database.
    from medperf_cache.disk import Store

UNPACKED, IMAGE, IMAGE_ID = "unpacked:", "image:", "image-id:"
CONVERTED = "converted:"
DERIVED = (UNPACKED, IMAGE, CONVERTED)


class Names:
    """A mapping from names to digests. Processes may share it; the last write stands."""

    def __init__(self, store: "Store") -> None:
        self._store = store

    def get(self, name: str) -> str | None:
        """The digest stored under a name, or None."""
        digest: str | None = self._store.get(f"name:{name}")
        return digest

    def items(self, prefix: str = "") -> Iterator[tuple[str, str]]:
        """Every name that begins so, and its digest."""
        for key, digest in self._store.with_prefix(f"name:{prefix}"):
            yield key.removeprefix("name:"), digest

    def put(self, name: str, digest: str) -> None:
        """Store a digest under a name."""
        self._store[f"name:{name}"] = digest

    def forget(self, name: str) -> None:
        """Drop a name; no error if it is unknown."""
        self._store.pop(f"name:{name}")
