"""Content as SHA-256 digests: of files and folders, remembered where nothing changed."""

import hashlib
import os
import re
import stat
import time
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any

from medperf_cache.disk import Store
from medperf_cache.errors import CacheError, NotCached

CHUNK_BYTES = 1 << 20
# A file changed within one tick of the file system's clock after it was read would look unchanged
# (git calls such entries "racily clean"), so a file that young is not remembered.
FINE_TICK_NS, COARSE_TICK_NS = 50_000_000, 2_000_000_000


def is_digest(text: str) -> bool:
    """Whether a text is a SHA-256 as the cache writes it."""
    return re.fullmatch("[0-9a-f]{64}", text) is not None


def place(root: Path, digest: str) -> Path:
    """Where content of that digest is kept below `root`.

    Raises `NotCached` for anything but a digest: what a registry sends must not name other paths.
    """
    if not is_digest(digest):
        raise NotCached(f"{digest!r} is not a SHA-256, 64 lower-case hexadecimal digits")
    return root / digest[:2] / digest


def mark_used(path: Path) -> bool:
    """Note that content was used now, where that can be written; whether it is there."""
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    except OSError:
        return path.exists()
    return True


def stored(root: Path) -> list[Path]:
    """What is kept below `root`, by digest."""
    return sorted(path for path in root.glob("??/*") if is_digest(path.name))


def file_digest(path: str | Path) -> str:
    """SHA-256 of a file's bytes, 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _listing(folder: str, prefix: str) -> list[tuple[str, os.DirEntry[str]]]:
    """The entries of a folder, last first. Sorted as bytes: names read the same in any locale."""
    with os.scandir(folder) as found:
        ordered = sorted(found, key=lambda entry: os.fsencode(entry.name), reverse=True)
    return [(prefix + entry.name, entry) for entry in ordered]


def entries(root: Path) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Every entry below `root` with its path relative to it, sorted within each folder."""
    waiting = _listing(str(root), "")
    while waiting:
        path, entry = waiting.pop()
        yield path, entry
        if entry.is_dir(follow_symlinks=False):
            waiting += _listing(entry.path, f"{path}/")


def leaves(path: str, target: str) -> bool:
    """Whether a symbolic link at `path` in a folder may lead out of that folder.

    A target that goes down and then up again counts as one that does: what it means depends on
    other links, and `a/..` is outside where `a` is a link to `.`.
    """
    steps = [step for step in target.split("/") if step not in ("", ".")]
    ups = len(list(takewhile(lambda step: step == "..", steps)))
    return os.path.isabs(target) or ups > path.count("/") or ".." in steps[ups:]


def _describe(root: Path, known: dict[str, Any], fresh: dict[str, Any]) -> str:
    """The digest of a folder; digests of files whose signature is in `known` are taken from it."""
    tree = hashlib.sha256()
    for path, entry in entries(root):
        if entry.is_symlink():
            target = os.readlink(entry.path)
            if leaves(path, target):
                raise CacheError(
                    f"{entry.path} is a link to {target}, which may lead out of {root}: "
                    "put the file itself there"
                )
            line = f"link {path}\0{target}"
        elif entry.is_dir():
            line = f"directory {path}"
        elif entry.is_file():
            status = entry.stat(follow_symlinks=False)
            kind = "executable" if status.st_mode & stat.S_IXUSR else "file"
            line = f"{kind} {path}\0{_remembered(entry.path, path, status, known, fresh)}"
        else:
            raise CacheError(f"{entry.path} is neither a file nor a folder nor a link")
        tree.update(os.fsencode(line) + b"\n\0")
    return tree.hexdigest()


def _remembered(
    file: str, key: str, status: os.stat_result, known: dict[str, Any], fresh: dict[str, Any]
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

    Raises `CacheError` for links that leave the folder and for devices, sockets and pipes,
    `OSError` for what cannot be read.
    """
    return _describe(root, {}, {})


class Fingerprints:
    """Digests of files and folders outside the cache, remembered while their status is the same.

    As git's index does: size, modification and change time, and inode decide whether a file is
    read again. Processes may share it; the last one to look at a path is remembered.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def digest(self, path: Path) -> str:
        """The digest of a file (of its bytes) or of a folder (see `tree_digest`).

        Raises `OSError` naming what cannot be read, or vanished meanwhile.
        """
        path = path.resolve()
        key = f"fingerprint:{path}"
        known: dict[str, Any] = self._store.get(key) or {}
        fresh: dict[str, Any] = {}
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            found = _describe(path, known, fresh)
        elif stat.S_ISREG(status.st_mode):
            found = _remembered(str(path), "", status, known, fresh)
        else:
            raise CacheError(f"{path} is neither a file nor a folder")
        if fresh != known:
            self._store[key] = fresh
        return found

    def forget_missing(self) -> None:
        """Drop what is remembered of paths that are gone."""
        for key in list(self._store.iterkeys()):
            prefix, _, path = key.partition(":")
            if prefix == "fingerprint" and not os.path.lexists(path):
                self._store.pop(key)
