"""Unpack zip archives, by the rules for what is unpacked (see `archives.Guard`)."""

import io
import os
import stat
import zipfile
from pathlib import Path
from shutil import copyfileobj
from typing import TYPE_CHECKING

from medperf_cache.digests import CHUNK_BYTES
from medperf_cache.errors import UnsafeArchive

if TYPE_CHECKING:
    from medperf_cache.archives import Guard

# Of the list of members, which zipfile reads into memory at once: half a million of them.
DIRECTORY_BYTES = 64 << 20
LONGEST_LINK_BYTES = 4096
ENCRYPTED = 1
DOS = 0


class _Bounded(io.FileIO):
    """A file of which nobody reads more at once than a list of members may take."""

    def read(self, size: int | None = -1) -> bytes:
        if size is not None and size > DIRECTORY_BYTES:
            raise zipfile.BadZipFile(f"a list of members of {size} bytes")
        return super().read(-1 if size is None else size) or b""


def unpack_zip(archive: Path, folder: Path, guard: "Guard") -> None:
    """Unpack a zip archive into an empty folder.

    Raises `UnsafeArchive` for what `guard` refuses, for an encrypted archive and for members that
    are neither file nor folder nor link; zipfile's own errors, of nearly any type, for damage.
    """
    try:
        packed = zipfile.ZipFile(_Bounded(archive))  # type: ignore[arg-type]
    except zipfile.BadZipFile as error:
        raise UnsafeArchive(f"a zip archive that is damaged or cut off: {error}") from error
    with packed:
        for member in packed.infolist():
            _unpack_member(packed, member, str(folder), guard)


def _unpack_member(
    packed: zipfile.ZipFile, member: zipfile.ZipInfo, folder: str, guard: "Guard"
) -> None:
    spelt = member.filename
    if member.create_system == DOS and "/" not in spelt:
        # Old tools on Windows wrote them, against the specification (APPNOTE, 4.4.17.1).
        spelt = spelt.replace("\\", "/")
    # An absolute path is taken as a relative one, as in a tar archive.
    name = spelt.strip("/")
    guard.enter(member.file_size)
    guard.check_steps(name, folder)
    if member.flag_bits & ENCRYPTED:
        raise UnsafeArchive(f"{name!r} is encrypted: pack it without a password")
    # Those of Unix, where its maker noted any.
    mode = member.external_attr >> 16
    target = os.path.join(folder, os.path.normpath(name))
    if spelt.endswith("/"):
        os.makedirs(target, exist_ok=True)
        return
    if os.path.lexists(target):
        raise UnsafeArchive(f"{name!r} is there twice")
    os.makedirs(os.path.dirname(target), exist_ok=True)
    if stat.S_ISLNK(mode):
        _unpack_link(packed, member, target, name, guard)
    elif stat.S_IFMT(mode) in (0, stat.S_IFREG):
        with packed.open(member) as source, open(target, "xb") as file:
            copyfileobj(source, file, CHUNK_BYTES)
        os.chmod(target, 0o755 if mode & stat.S_IXUSR else 0o644)  # nosec B103 # ours to run
    else:
        raise UnsafeArchive(f"{name!r} is a special file")


def _unpack_link(
    packed: zipfile.ZipFile, member: zipfile.ZipInfo, target: str, name: str, guard: "Guard"
) -> None:
    if member.file_size > LONGEST_LINK_BYTES:
        raise UnsafeArchive(f"{name!r} is a link of {member.file_size} bytes")
    points_to = os.fsdecode(packed.read(member))
    guard.check_link(name, points_to)
    os.symlink(points_to, target)
