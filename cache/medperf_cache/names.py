"""Digests by name: what a URL held, what an archive was unpacked to."""

from collections.abc import Iterator

from medperf_cache.disk import Store


class Names:
    """A mapping from names to digests. Processes may share it; the last write stands."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def get(self, name: str) -> str | None:
        """The digest stored under a name, or None."""
        digest: str | None = self._store.get(f"name:{name}")
        return digest

    def items(self) -> Iterator[tuple[str, str]]:
        """Every name and its digest."""
        for key, digest in self._store.with_prefix("name:"):
            yield key.removeprefix("name:"), digest

    def put(self, name: str, digest: str) -> None:
        """Store a digest under a name."""
        self._store[f"name:{name}"] = digest
