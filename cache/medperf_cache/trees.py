"""Folders by content: unpacked archives and what containers produced, read-only."""

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medperf_cache.digests import tree_digest
from medperf_cache.errors import CacheError, CorruptContent, NotCached, UnsafeArchive
from medperf_cache.names import Names
from medperf_cache.scratch import remove_tree, scratch

if sys.version_info >= (3, 12):
    import tarfile
else:
    # Early patch releases of 3.10 and 3.11 have no extraction filters (PEP 706).
    from backports import tarfile


@dataclass(frozen=True)
class UnpackLimits:
    """Bounds on what an archive may hold: bytes of all files together, and members."""

    total_bytes: int = 1 << 38
    members: int = 2_000_000


def _guard(limits: UnpackLimits) -> Any:
    """tarfile's `data` filter (PEP 706), which also counts."""
    seen = {"bytes": 0, "members": 0}

    def check(member: tarfile.TarInfo, destination: str) -> tarfile.TarInfo | None:
        seen["bytes"] += member.size
        seen["members"] += 1
        if seen["bytes"] > limits.total_bytes:
            raise UnsafeArchive(f"more than {limits.total_bytes} bytes when unpacked")
        if seen["members"] > limits.members:
            raise UnsafeArchive(f"more than {limits.members} members")
        return tarfile.data_filter(member, destination)

    return check


def _make_read_only(root: Path) -> None:
    for folder, _, files in os.walk(root, topdown=False):
        for name in files:
            path = os.path.join(folder, name)
            if not os.path.islink(path):
                os.chmod(path, 0o555 if os.stat(path).st_mode & 0o100 else 0o444)
        # The top stays writable: renaming a folder needs that of everyone but root.
        if folder != str(root):
            os.chmod(folder, 0o555)


class TreeStore:
    """Read-only folders named by their `tree_digest`.

    Any number of processes may add the same content at once: the first rename wins, the others
    find the folder there and drop their own.
    """

    def __init__(self, root: Path, incoming: Path, unpacked: Names) -> None:
        self._root, self._incoming, self._unpacked = root, incoming, unpacked

    def _place(self, digest: str) -> Path:
        return self._root / digest[:2] / digest

    def __contains__(self, digest: str) -> bool:
        return self._place(digest).is_dir()

    def __iter__(self) -> Iterator[str]:
        for path in sorted(self._root.glob("??/*")):
            yield path.name

    def path(self, digest: str) -> Path:
        """Where the folder is; marks it as used now. Raises `NotCached`."""
        place = self._place(digest)
        try:
            os.utime(place)
        except FileNotFoundError:
            raise NotCached(f"folder {digest} is not in the cache") from None
        return place

    def unpacked(self, archive_digest: str) -> str | None:
        """The digest of the folder that an archive was unpacked to, if it is here."""
        digest = self._unpacked.get(archive_digest)
        return digest if digest is not None and digest in self else None

    def unpack(self, archive: Path, archive_digest: str, limits: UnpackLimits | None = None) -> str:
        """Unpack a tar archive (plain, gzip, bzip2 or xz) once; returns the folder's digest.

        Raises `UnsafeArchive` for anything but files, folders and links that stay inside, for an
        archive over the `limits`, and for a damaged one; then nothing is kept.
        """
        known = self.unpacked(archive_digest)
        if known is not None:
            return known
        with scratch(self._incoming) as folder:
            tree = folder / "tree"
            tree.mkdir()
            try:
                with tarfile.open(archive) as tar:
                    tar.extractall(tree, filter=_guard(limits or UnpackLimits()))
            except (tarfile.TarError, EOFError, ValueError, UnsafeArchive) as error:
                raise UnsafeArchive(f"{archive.name}: {error}") from error
            except OSError as error:
                # A damaged compressed stream is an OSError without an errno; a full disk has one.
                if error.errno is not None:
                    raise CacheError(f"cannot unpack {archive.name}: {error.strerror}") from error
                raise UnsafeArchive(f"{archive.name}: {error}") from error
            digest = self.adopt(tree)
        self._unpacked.put(archive_digest, digest)
        return digest

    def adopt(self, folder: Path) -> str:
        """Move a folder of this file system in (out of a scratch folder); returns its digest."""
        _make_read_only(folder)
        digest = tree_digest(folder)
        place = self._place(digest)
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            os.rename(folder, place)
        except OSError:
            # Renaming onto a folder that is not empty fails: the content is here already.
            if not place.is_dir():
                raise
            remove_tree(folder)
        return digest

    def copy(self, folder: Path) -> str:
        """Store a copy of a folder from anywhere; returns its digest."""
        with scratch(self._incoming) as area:
            shutil.copytree(folder, area / "tree", symlinks=True)
            return self.adopt(area / "tree")

    def remove(self, digest: str) -> None:
        """Delete a folder: first out of sight, then for good."""
        with scratch(self._incoming) as area:
            try:
                os.rename(self._place(digest), area / "tree")
            except FileNotFoundError:
                return

    def verify(self) -> Iterator[CorruptContent]:
        """Read every folder again; yields what is not what its name says."""
        for digest in self:
            try:
                found = tree_digest(self._place(digest))
            except CacheError as error:
                found = str(error)
            if found != digest:
                yield CorruptContent(f"tree {self._place(digest)}", digest, found, "tree")
