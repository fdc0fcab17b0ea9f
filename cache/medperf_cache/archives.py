"""Unpack archives that nobody vouches for: bounded, inside their folder, whole or not at all.

tarfile's `data` filter (PEP 706) was fooled by chains of links (CVE-2025-4138, -4330, -4517), and
tarfile takes a damaged header for the end of an archive. So nothing here is written through a
link, no link goes down and up again, and an archive must come to its end. Zip archives keep the
same rules, see `zips`.
"""

import copy
import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medperf_cache.digests import CHUNK_BYTES, MOST_DEPTH, MOST_MEMBERS, leaves
from medperf_cache.errors import CacheError, UnsafeArchive
from medperf_cache.signatures import ZIP, ZSTD, described

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
# Of a path, in a message.
MOST_SHOWN = 200
# What reading zstd takes in memory, whatever a stream asks for: 128 MiB, zstd's own bound.
WINDOW_LOG = 27
# Called with how many bytes are unpacked, or soon will be.
Watch = Callable[[int], None]
# An archive's own fault, and so on every disk: paths too long, files where folders are.
UNSOUND = {errno.EEXIST, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOTDIR}


@dataclass(frozen=True)
class UnpackLimits:
    """Bounds on what an archive may hold: bytes of all files together, members, folders deep."""

    total_bytes: int = 1 << 38
    members: int = MOST_MEMBERS
    depth: int = MOST_DEPTH


def unwatched(done: int) -> None:
    """Watch of nobody."""


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

    def __init__(self, limits: UnpackLimits, watch: Watch = unwatched) -> None:
        self._limits, self._watch = limits, watch
        self.bytes, self._members = 0, 0

    def count(self, size: int) -> None:
        """Raises `UnsafeArchive` when it is too much."""
        self.bytes += size
        self._watch(self.bytes)
        if self.bytes > self._limits.total_bytes:
            raise UnsafeArchive(f"more than {self._limits.total_bytes} bytes when unpacked")

    def enter(self, size: int) -> None:
        """Count one more member of that size. Raises `UnsafeArchive` when it is too much."""
        self.count(size)
        self._members += 1
        if self._members > self._limits.members:
            raise UnsafeArchive(f"more than {self._limits.members} members")

    def __call__(self, member: Any, folder: str) -> Any:
        self.enter(member.size)
        member = self._filtered(member, folder)
        self.check_steps(member.name, folder)
        if member.islnk():
            member = self._linked(member, folder)
        if member.issym():
            self.check_link(member.name, member.linkname)
        # The same content is the same folder: its times are those of unpacking.
        return member.replace(mtime=None, deep=False)

    @staticmethod
    def _filtered(member: Any, folder: str) -> Any:
        """What tarfile makes of a member; a link that stays inside leads where it was written to.

        Of these tarfile refuses some, and later versions write others another way, which would be
        another folder.
        """
        if not member.issym() or leaves(os.path.normpath(member.name), member.linkname):
            return tarfile.data_filter(member, folder)
        placed = tarfile.data_filter(member.replace(linkname="", deep=False), folder)
        return placed.replace(linkname=member.linkname, deep=False)

    def _linked(self, member: Any, folder: str) -> Any:
        """A hard link; one to a link is that link once more, as it is on the disk it came from."""
        self.check_steps(os.path.dirname(member.linkname), folder)
        target = os.path.join(folder, member.linkname)
        if os.path.islink(target):
            again = copy.copy(member)
            again.type, again.linkname = tarfile.SYMTYPE, os.readlink(target)
            return again
        if not os.path.isfile(target):
            raise UnsafeArchive(f"{member.name!r} links to {member.linkname!r}, not a file")
        return member

    def check_link(self, name: str, target: str) -> None:
        """Raise `UnsafeArchive` for a symbolic link that leads nowhere, or may lead out."""
        if not target:
            raise UnsafeArchive(f"{name!r} is a link to nothing")
        if leaves(os.path.normpath(name), target):
            raise UnsafeArchive(f"{name!r} may lead outside, to {target!r}")

    def check_steps(self, name: str, folder: str) -> None:
        """Raise `UnsafeArchive` for a path that goes up, too deep, or through a link."""
        steps = name.split("/")
        if ".." in steps:
            raise UnsafeArchive(f"{name!r} goes upwards")
        if len(steps) > self._limits.depth:
            raise UnsafeArchive(f"{name!r} is more than {self._limits.depth} folders deep")
        for step in steps:
            folder = os.path.join(folder, step)
            if os.path.islink(folder):
                raise UnsafeArchive(f"{name!r} goes through a link")


@contextmanager
def without_zstd(archive: Path) -> Iterator[Any]:
    """The bytes of an archive to read, for the block, decompressed where that is by zstd.

    Raises `UnsafeArchive` for such a one that is damaged.
    """
    # Imported late: what is unpacked already does not need it.
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd

    bound: dict[int, int] = {zstd.DecompressionParameter.window_log_max: WINDOW_LOG}
    packed = ZSTD.begins(archive)
    try:
        with zstd.open(archive, options=bound) if packed else open(archive, "rb") as file:
            yield file
    except zstd.ZstdError as error:
        raise UnsafeArchive(str(error)) from error


@contextmanager
def open_tar(archive: Path) -> Iterator[Any]:
    """A tar archive to read, for the block: plain, gzip, bzip2, xz or zstd.

    Raises `UnsafeArchive` for what is none, or turns out to be damaged in the block.
    """
    import lzma
    import zlib

    try:
        with without_zstd(archive) as file, _tar(archive, file) as tar:
            yield tar
    except (tarfile.TarError, zlib.error, lzma.LZMAError, EOFError) as error:
        raise UnsafeArchive(str(error)) from error


def _tar(archive: Path, file: Any) -> Any:
    try:
        return tarfile.open(fileobj=file, tarinfo=Member, errorlevel=2, copybufsize=CHUNK_BYTES)
    except tarfile.ReadError as error:
        kind = described(archive)
        is_ = f": it is {kind}" if kind else ", or damaged"
        said = f"not a tar archive (plain, gzip, bzip2, xz or zstd){is_}"
        raise UnsafeArchive(said) from error


def unpack(
    archive: Path,
    folder: Path,
    limits: UnpackLimits,
    name: str = "",
    watch: Watch = unwatched,
) -> None:
    """Unpack a tar archive (plain, gzip, bzip2, xz or zstd) or a zip archive into an empty folder.

    `name` is what people call it. Raises `UnsafeArchive` for anything but files, folders and links
    that stay inside, for an archive over the `limits` and for a damaged one, `CacheError` if it
    cannot be written here.
    """
    name = name or archive.name
    guard = Guard(limits, watch)
    try:
        if ZIP.begins(archive):
            from medperf_cache.zips import unpack_zip

            unpack_zip(archive, folder, guard)
        else:
            _unpack_tar(archive, folder, guard)
    except Exception as error:
        # tarfile and the decompressors let errors of nearly any type out on hostile input.
        if isinstance(error, OSError) and error.errno is not None:
            if error.errno not in UNSOUND:
                raise CacheError(f"cannot unpack {name}: {error.strerror}") from error
            where = os.path.relpath(error.filename, folder) if error.filename else ""
            raise UnsafeArchive(f"{name}: {error.strerror}: {where[:MOST_SHOWN]!r}") from error
        raise UnsafeArchive(f"{name}: {str(error) or type(error).__name__}") from error


def _unpack_tar(archive: Path, folder: Path, guard: Guard) -> None:
    with open_tar(archive) as tar:
        while (member := tar.next()) is not None:
            tar.extract(member, folder, filter=guard)
            # Not kept: millions of members would fill the memory.
            tar.members.clear()
        # A compressed stream is known to be sound only once it was read to its end.
        while rest := tar.fileobj.read(CHUNK_BYTES):
            guard.count(len(rest))
