"""Unpack tar archives that nobody vouches for: bounded, inside their folder, whole or not at all.

tarfile's `data` filter (PEP 706) was fooled by chains of links (CVE-2025-4138, -4330, -4517), and
tarfile takes a damaged header for the end of an archive. So nothing here is written through a
link, no link goes down and up again, and an archive must come to its end.
"""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medperf_cache.digests import CHUNK_BYTES, leaves
from medperf_cache.errors import CacheError, UnsafeArchive

if sys.version_info >= (3, 12):
    import tarfile
else:
    # Early patch releases of 3.10 and 3.11 have no extraction filters.
    import backports.tarfile as tarfile

# Long names and extended attributes: these headers are read into memory.
EXTENSION_BYTES = 1 << 20
EXTENSIONS = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)


@dataclass(frozen=True)
class UnpackLimits:
    """Bounds on what an archive may hold: bytes of all files together, members, folders deep."""

    total_bytes: int = 1 << 38
    members: int = 2_000_000
    depth: int = 100


class Member(tarfile.TarInfo):
    """A member whose header is sound."""

    @classmethod
    def fromtarfile(cls, archive: Any) -> Any:
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"damaged or cut off: {error}") from error

    def _proc_member(self, archive: Any) -> Any:
        if self.type in EXTENSIONS and self.size > EXTENSION_BYTES:
            raise tarfile.ReadError(f"a header of {self.size} bytes")
        return super()._proc_member(archive)

    def _block(self, count: int) -> Any:
        # A negative size would send tarfile backwards for ever (CVE-2025-8194).
        if count < 0:
            raise tarfile.ReadError(f"a size of {count} bytes")
        return super()._block(count)


class Guard:
    """tarfile's `data` filter, which also counts and distrusts links."""

    def __init__(self, limits: UnpackLimits) -> None:
        self._limits, self.bytes, self._members = limits, 0, 0

    def count(self, size: int) -> None:
        """Raises `UnsafeArchive` when it is too much."""
        self.bytes += size
        if self.bytes > self._limits.total_bytes:
            raise UnsafeArchive(f"more than {self._limits.total_bytes} bytes when unpacked")

    def __call__(self, member: Any, folder: str) -> Any:
        self.count(member.size)
        self._members += 1
        if self._members > self._limits.members:
            raise UnsafeArchive(f"more than {self._limits.members} members")
        member = tarfile.data_filter(member, folder)
        self._check_steps(member.name, folder)
        if member.issym() and leaves(os.path.normpath(member.name), member.linkname):
            raise UnsafeArchive(f"{member.name!r} may lead outside, to {member.linkname!r}")
        if member.islnk():
            self._check_steps(member.linkname, folder)
            if not os.path.isfile(os.path.join(folder, member.linkname)):
                raise UnsafeArchive(f"{member.name!r} links to {member.linkname!r}, not a file")
        # The same content is the same folder: its times are those of unpacking.
        return member.replace(mtime=None, deep=False)

    def _check_steps(self, name: str, folder: str) -> None:
        steps = name.split("/")
        if ".." in steps:
            raise UnsafeArchive(f"{name!r} goes upwards")
        if len(steps) > self._limits.depth:
            raise UnsafeArchive(f"{name!r} is more than {self._limits.depth} folders deep")
        for step in steps:
            folder = os.path.join(folder, step)
            if os.path.islink(folder):
                raise UnsafeArchive(f"{name!r} goes through a link")


def _open(archive: Path) -> Any:
    try:
        return tarfile.open(archive, tarinfo=Member, errorlevel=2, copybufsize=CHUNK_BYTES)
    except tarfile.ReadError as error:
        raise UnsafeArchive("not a tar archive (plain, gzip, bzip2 or xz), or damaged") from error


def unpack(archive: Path, folder: Path, limits: UnpackLimits) -> None:
    """Unpack a tar archive (plain, gzip, bzip2 or xz) into an empty folder.

    Raises `UnsafeArchive` for anything but files, folders and links that stay inside, for an
    archive over the `limits` and for a damaged one, `CacheError` if it cannot be written here.
    """
    guard = Guard(limits)
    try:
        with _open(archive) as tar:
            while (member := tar.next()) is not None:
                tar.extract(member, folder, filter=guard)
                # Not kept: millions of members would fill the memory.
                tar.members.clear()
            # A compressed stream is known to be sound only once it was read to its end.
            while rest := tar.fileobj.read(CHUNK_BYTES):
                guard.count(len(rest))
    except Exception as error:
        # tarfile and the decompressors let errors of nearly any type out on hostile input.
        if isinstance(error, OSError) and error.errno is not None:
            raise CacheError(f"cannot unpack {archive.name}: {error.strerror}") from error
        raise UnsafeArchive(f"{archive.name}: {str(error) or type(error).__name__}") from error
