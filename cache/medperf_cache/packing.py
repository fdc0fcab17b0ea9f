"""Write tar archives of what lies here, without times and owners; visible once they are whole."""

import io
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkstemp
from typing import Any, Protocol

from medperf_cache.archives import tarfile
from medperf_cache.digests import CHUNK_BYTES, entries
from medperf_cache.errors import NotWritable

# Called with how many bytes more are written.
Note = Callable[[int], None]


class Watch(Protocol):
    """Hears of a file that is written; what it raises keeps the file from being there."""

    def begin(self, contents: bytes) -> None:
        """Before the first byte: what the file is going to hold, JSON."""

    def seal(self, digest: str, size_bytes: int) -> None:
        """Before it has its name: its SHA-256 and its size, now that it is whole."""


@contextmanager
def named(file: Path) -> Iterator[None]:
    """Say of an error of the disk which file it keeps from being written."""
    try:
        yield
    except OSError as error:
        raise NotWritable(
            f"{file} cannot be written: {error.strerror}. Name a file in a folder that you can "
            "write to, with room for it."
        ) from error


@contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """A new file that takes this one's place after the block, unless that raises."""
    with named(file):
        descriptor, name = mkstemp(dir=file.absolute().parent, prefix=f".{file.name}.")
        os.close(descriptor)
    try:
        yield Path(name)
        with named(file):
            os.replace(name, file)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(name)
        raise


def open_to_write(target: Any) -> Any:
    """A tar archive to add to, as `target` gets it."""
    # Not a stream of tarfile's, which cuts what is written into blocks of 10 KiB.
    return tarfile.open(
        fileobj=target, mode="w", format=tarfile.PAX_FORMAT, copybufsize=CHUNK_BYTES
    )


def add_bytes(tar: Any, name: str, data: bytes) -> None:
    """Add a file that holds this."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    _add(tar, info, io.BytesIO(data))


def add_directory(tar: Any, name: str) -> None:
    """Add a folder, and nothing in it."""
    info = tarfile.TarInfo(name)
    info.type, info.mode = tarfile.DIRTYPE, 0o755
    _add(tar, info)


def add_file(tar: Any, name: str, file: Any, note: Note) -> None:
    """Add an open file; it is executable if its owner may execute it."""
    info, status = tarfile.TarInfo(name), os.fstat(file.fileno())
    info.size = status.st_size
    info.mode = 0o755 if status.st_mode & stat.S_IXUSR else 0o644
    _add(tar, info, _Noted(file, note))


def add_folder(tar: Any, prefix: str, root: Path, note: Note) -> None:
    """Add what is in a folder, under names that begin with `prefix`."""
    for path, entry in entries(root):
        if entry.is_symlink():
            info = tarfile.TarInfo(f"{prefix}{path}")
            info.type, info.linkname = tarfile.SYMTYPE, os.readlink(entry.path)
            _add(tar, info)
        elif entry.is_dir():
            add_directory(tar, f"{prefix}{path}")
        else:
            with open(entry.path, "rb", buffering=0) as file:
                add_file(tar, f"{prefix}{path}", file, note)


def _add(tar: Any, info: Any, content: Any = None) -> None:
    tar.addfile(info, content)
    # Not kept: millions of members would fill the memory.
    tar.members.clear()


class _Noted:
    """A file to read; `note` hears of each piece."""

    def __init__(self, file: Any, note: Note) -> None:
        self._file, self._note = file, note

    def read(self, size: int) -> bytes:
        chunk: bytes = self._file.read(size)
        self._note(len(chunk))
        return chunk
