"""What must stay in the cache, by the name of what needs it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from medperf_cache.disk import Store

# A kind, "blob" or "tree", and a digest.
Content = tuple[str, str]


class Pins:
    """Names, each with the content that is kept for it. Processes may share it."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def put(self, name: str, contents: Iterable[Content]) -> None:
        """Keep these for a name, in place of what was kept for it before."""
        kept = sorted(set(contents))
        # `gc` has this done on a full disk too, where only what is so already can be kept.
        if kept != self.get(name):
            self._store[f"pin:{name}"] = kept

    def get(self, name: str) -> list[Content]:
        """What is kept for a name; nothing if the name is unknown."""
        return [(kind, digest) for kind, digest in self._store.get(f"pin:{name}") or ()]

    def remove(self, name: str) -> bool:
        """Keep nothing for a name any more; whether there was such a name."""
        key = f"pin:{name}"
        return key in self._store and self._store.pop(key) is not None

    def names(self) -> dict[Content, list[str]]:
        """What is kept, and the names it is kept for."""
        found: dict[Content, list[str]] = {}
        for key, contents in self._store.with_prefix("pin:"):
            for kind, digest in contents:
                found.setdefault((kind, digest), []).append(key.removeprefix("pin:"))
        return found


@dataclass(frozen=True)
class Keeping:
    """The files of the cache that one owner needs, pinned under its name.

    Who adds and who lets go reads what is kept before: the owner sees to it that only one does so
    at a time. `pins` is asked when there is something to keep.
    """

    name: str
    pins: Callable[[], Pins]

    def add(self, digests: Iterable[str]) -> None:
        """Keep these blobs, too."""
        pins = self.pins()
        pins.put(self.name, [*pins.get(self.name), *(("blob", digest) for digest in digests)])

    def only(self, digests: Iterable[str]) -> None:
        """Keep these blobs, and nothing else."""
        pins, kept = self.pins(), [("blob", digest) for digest in digests]
        if kept:
            pins.put(self.name, kept)
        else:
            pins.remove(self.name)
