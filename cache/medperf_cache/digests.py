"""Content as SHA-256 digests: of files and folders, remembered where nothing changed."""

import hashlib
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from diskcache import Cache

from medperf_cache.errors import CacheError

CHUNK_BYTES = 1 << 20
# A file changed within one tick of the file system's clock after it was read would look unchanged
# (git calls such entries "racily clean"), so a file that young is not remembered.
FINE_TICK_NS, COARSE_TICK_NS = 50_000_000, 2_000_000_000

Signature = list[int]


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _entries(root: Path, relative: str = "") -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Every entry below `root` with its path relative to it, sorted within each folder."""
    with os.scandir(os.path.join(root, relative)) as found:
        for entry in sorted(found, key=lambda e: e.name):
            path = f"{relative}/{entry.name}" if relative else entry.name
            yield path, entry
            if entry.is_dir(follow_symlinks=False):
                yield from _entries(root, path)


def _inner_link(root: Path, path: str) -> str:
    """The target of a symbolic link, if it stays inside `root`."""
    target = os.readlink(root / path)
    whole = os.path.normpath(os.path.join(os.path.dirname(path), target))
    if os.path.isabs(target) or whole.split(os.sep)[0] == "..":
        raise CacheError(
            f"{root / path} is a link to {target}, outside {root}: put the file itself there"
        )
    return target


def _describe(root: Path, known: dict[str, Any], fresh: dict[str, Any]) -> str:
    """The digest of a folder; digests of files whose signature is in `known` are taken from it."""
    tree = hashlib.sha256()
    for path, entry in _entries(root):
        if entry.is_symlink():
            line = f"link {path}\0{_inner_link(root, path)}"
        elif entry.is_dir():
            line = f"directory {path}"
        elif entry.is_file():
            status = entry.stat()
            kind = "executable" if status.st_mode & stat.S_IXUSR else "file"
            line = f"{kind} {path}\0{_remembered(root / path, path, status, known, fresh)}"
        else:
            raise CacheError(f"{root / path} is neither a file nor a folder nor a link")
        tree.update(os.fsencode(line) + b"\n\0")
    return tree.hexdigest()


def _remembered(
    file: Path, key: str, status: os.stat_result, known: dict[str, Any], fresh: dict[str, Any]
) -> str:
    signature = [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
    entry = known.get(key)
    if entry is None or entry[0] != signature:
        looked_at = time.time_ns()
        entry = [signature, file_digest(file)]
        changed = max(status.st_mtime_ns, status.st_ctime_ns)
        tick = FINE_TICK_NS if changed % 1_000_000_000 else COARSE_TICK_NS
        if changed > looked_at - tick:
            return str(entry[1])
    fresh[key] = entry
    return str(entry[1])


def tree_digest(root: Path) -> str:
    """SHA-256 over the sorted listing of a folder: paths, kinds, executable bits, file digests.

    Raises `CacheError` for links that leave the folder and for devices, sockets and pipes.
    """
    return _describe(root, {}, {})


class Fingerprints:
    """Digests of files and folders outside the cache, remembered while their status is the same.

    As git's index does: size, modification and change time, and inode decide whether a file is
    read again. Processes may share it; the last one to look at a path is remembered.
    """

    def __init__(self, store: Cache) -> None:
        self._store = store

    def digest(self, path: Path) -> str:
        """The digest of a file (of its bytes) or of a folder (see `tree_digest`)."""
        path = path.resolve()
        key = f"fingerprint:{path}"
        known: dict[str, Any] = self._store.get(key) or {}
        fresh: dict[str, Any] = {}
        if path.is_dir():
            found = _describe(path, known, fresh)
        else:
            found = _remembered(path, "", path.stat(), known, fresh)
        if fresh != known:
            self._store[key] = fresh
        return found

    def forget_missing(self) -> None:
        """Drop what is remembered of paths that are gone."""
        for key in list(self._store.iterkeys()):
            prefix, _, path = key.partition(":")
            if prefix == "fingerprint" and not os.path.lexists(path):
                self._store.pop(key)
