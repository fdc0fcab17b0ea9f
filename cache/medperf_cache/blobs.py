"""Files by content: streamed in, verified, then visible whole under their SHA-256."""

import os
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

from medperf_cache.digests import (
    CHUNK_BYTES,
    file_digest,
    is_digest,
    mark_used,
    place,
    stored,
)
from medperf_cache.errors import CacheError, CorruptContent, NotCached
from medperf_cache.scratch import scratch

# Where content of a digest lies outside a store, verified; None if it does not.
Elsewhere = Callable[[str], Path | None]


def nowhere(digest: str) -> None:
    """For a store that has nothing but its own."""


class BlobStore:
    """Read-only files named by their digests.

    Any number of processes may add the same content at once: each writes a file of its own and
    renames it into place, the last rename wins with identical bytes. What is not here may lie
    `elsewhere`: it is found like the rest, and never listed, changed or removed.
    """

    def __init__(self, root: Path, incoming: Path, elsewhere: Elsewhere = nowhere) -> None:
        self._root, self._incoming, self._elsewhere = root, incoming, elsewhere

    def __contains__(self, digest: str) -> bool:
        return self.find(digest) is not None

    def __iter__(self) -> Iterator[str]:
        return (path.name for path in stored(self._root))

    def find(self, digest: str) -> Path | None:
        """Where the file is, here or elsewhere; None if it is not to be had."""
        if not is_digest(digest):
            return None
        path = place(self._root, digest)
        return path if path.is_file() else self._elsewhere(digest)

    def path(self, digest: str) -> Path:
        """Where the file is; marks it as used now. Raises `NotCached`."""
        path = place(self._root, digest)
        if mark_used(path):
            return path
        found = self._elsewhere(digest)
        if found is None:
            raise NotCached(f"sha256 {digest} is not in the cache")
        return found

    def add(self, chunks: Iterable[bytes], expected: str | None = None, what: str = "") -> str:
        """Store a stream of bytes and return its SHA-256.

        Raises `CorruptContent`, naming `what`, if the digest is not the `expected` one, and
        `OSError` if the disk is full; then, and if the stream raises, nothing is kept.
        """
        with scratch(self._incoming) as folder:
            digest = sha256()
            # Buffered: an unbuffered write may take only a part of its bytes, and says so once.
            with open(folder / "content", "wb") as file:
                for chunk in chunks:
                    digest.update(chunk)
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
            found = digest.hexdigest()
            if expected is not None and found != expected:
                raise CorruptContent(what or "content", expected, found)
            return self.publish(folder / "content", found)

    def adopt(self, file: Path) -> str:
        """Move a file of this file system in (from a scratch folder); returns its SHA-256.

        Raises `CacheError` as `settle` does.
        """
        return self.publish(file, self.settle(file))

    @staticmethod
    def settle(file: Path) -> str:
        """The SHA-256 of a file, for `publish`.

        Raises `CacheError` for a link or anything else that is not itself a file.
        """
        if not stat.S_ISREG(file.lstat().st_mode):
            raise CacheError(f"{file} is not a file")
        return file_digest(file)

    def publish(self, file: Path, digest: str) -> str:
        """Move a file of this file system in whose SHA-256 is known to be this; returns it."""
        path = place(self._root, digest)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.chmod(file, 0o444)
        os.rename(file, path)
        return digest

    def copy_to(self, digest: str, target: BinaryIO) -> None:
        """Write the file's bytes to `target`. Raises `NotCached`."""
        with open(self.path(digest), "rb") as source:
            shutil.copyfileobj(source, target, CHUNK_BYTES)

    def remove(self, digest: str) -> None:
        """Delete a file; no error if it is not there."""
        with suppress(FileNotFoundError):
            place(self._root, digest).unlink()

    def verify(self) -> Iterator[CorruptContent]:
        """Read every file again; yields what is not what its name says, or cannot be read."""
        for path in stored(self._root):
            try:
                found = file_digest(path)
            except FileNotFoundError:
                continue
            except OSError as error:
                found = str(error)
            if found != path.name:
                yield CorruptContent(f"blob {path}", path.name, found, "blob")
