"""Files by content: streamed in, verified, then visible whole under their SHA-256."""

import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from medperf_cache.digests import CHUNK_BYTES, file_digest
from medperf_cache.errors import CorruptContent, NotCached
from medperf_cache.scratch import scratch


class BlobStore:
    """Read-only files named by their digests.

    Any number of processes may add the same content at once: each writes a file of its own and
    renames it into place, the last rename wins with identical bytes.
    """

    def __init__(self, root: Path, incoming: Path) -> None:
        self._root, self._incoming = root, incoming

    def _place(self, digest: str) -> Path:
        return self._root / digest[:2] / digest

    def __contains__(self, digest: str) -> bool:
        return self._place(digest).is_file()

    def __iter__(self) -> Iterator[str]:
        for path in sorted(self._root.glob("??/*")):
            yield path.name

    def path(self, digest: str) -> Path:
        """Where the file is; marks it as used now. Raises `NotCached`."""
        place = self._place(digest)
        try:
            os.utime(place)
        except FileNotFoundError:
            raise NotCached(f"sha256 {digest} is not in the cache") from None
        return place

    def add(self, chunks: Iterable[bytes], expected: str | None = None, what: str = "") -> str:
        """Store a stream of bytes and return its SHA-256.

        Raises `CorruptContent`, naming `what`, if the digest is not the `expected` one; then, and
        if the stream raises, nothing is kept.
        """
        with scratch(self._incoming) as folder:
            digest = hashlib.sha256()
            with open(folder / "content", "wb", buffering=0) as file:
                for chunk in chunks:
                    digest.update(chunk)
                    file.write(chunk)
                os.fsync(file.fileno())
            return self._publish(folder / "content", digest.hexdigest(), expected, what)

    def adopt(self, file: Path) -> str:
        """Move a file of this file system in (from a scratch folder); returns its SHA-256."""
        return self._publish(file, file_digest(file), None, "")

    def _publish(self, file: Path, digest: str, expected: str | None, what: str) -> str:
        if expected is not None and digest != expected:
            raise CorruptContent(what or "content", expected, digest)
        place = self._place(digest)
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.chmod(file, 0o444)
        os.rename(file, place)
        return digest

    def copy_to(self, digest: str, target: BinaryIO) -> None:
        """Write the file's bytes to `target`. Raises `NotCached`."""
        with open(self.path(digest), "rb") as source:
            shutil.copyfileobj(source, target, CHUNK_BYTES)

    def remove(self, digest: str) -> None:
        """Delete a file; no error if it is not there."""
        with suppress(FileNotFoundError):
            self._place(digest).unlink()

    def verify(self) -> Iterator[CorruptContent]:
        """Read every file again; yields what is not what its name says."""
        for digest in self:
            with suppress(FileNotFoundError):
                found = file_digest(self._place(digest))
                if found != digest:
                    yield CorruptContent(f"blob {self._place(digest)}", digest, found, "blob")
