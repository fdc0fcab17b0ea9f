"""Content as SHA-256 digests, of files and of folders."""

import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from itertools import takewhile
from pathlib import Path

from medperf_cache.errors import CacheError, NotCached

CHUNK_BYTES = 1 << 20
# Of a path in a message, in characters.
SHOWN = 80
# What a folder may hold to be kept, and so unpacked or carried to any other cache: how many files,
# folders and links, how deep, and how long a path, which with a cache's own has to fit in 4096.
MOST_MEMBERS, MOST_DEPTH, MOST_PATH_BYTES = 2_000_000, 100, 3000


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


def file_digest(path: str | Path, tell: Callable[[int], None] = lambda read: None) -> str:
    """SHA-256 of a file's bytes, 64 hexadecimal digits. `tell` hears how many each read gave."""
    digest = hashlib.sha256()
    # Of a small file a file object would be a fifth of the time.
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        while chunk := os.read(file, CHUNK_BYTES):
            digest.update(chunk)
            tell(len(chunk))
    finally:
        os.close(file)
    return digest.hexdigest()


# The path of something in a folder, relative to that, and what it is.
Entry = tuple[str, os.DirEntry[str]]


def _listing(folder: str, prefix: str) -> list[Entry]:
    """The entries of a folder, last first. Sorted as bytes: names read the same in any locale."""
    with os.scandir(folder) as found:
        ordered = sorted(found, key=lambda entry: os.fsencode(entry.name), reverse=True)
    return [(prefix + entry.name, entry) for entry in ordered]


def entries(root: Path) -> Iterator[Entry]:
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


def beyond(path: str) -> str:
    """How a path in a folder is more than any cache takes; nothing if it is not."""
    if path.count("/") + 1 > MOST_DEPTH:
        return f"{_shortened(path)} is more than {MOST_DEPTH} folders deep"
    if len(os.fsencode(path)) > MOST_PATH_BYTES:
        return f"{_shortened(path)} is a path of more than {MOST_PATH_BYTES} bytes"
    return ""


def _shortened(path: str) -> str:
    return repr(path if len(path) <= SHOWN else f"{path[:SHOWN]}…")


def listing(root: Path, found: Iterable[Entry]) -> Iterator[tuple[str, os.DirEntry[str] | None]]:
    """Of each entry of a folder its line in the folder's description, and its file.

    The line of a file lacks the file's digest at its end; of what is no file there is none.
    Raises `CacheError` for what a folder to be described must not hold.
    """
    for path, entry in found:
        if entry.is_symlink():
            target = os.readlink(entry.path)
            if leaves(path, target):
                raise CacheError(
                    f"{entry.path} is a link to {target}, which may lead out of {root}: "
                    "put the file itself there"
                )
            yield f"link {path}\0{target}", None
        elif entry.is_dir():
            yield f"directory {path}", None
        elif entry.is_file():
            mode = entry.stat(follow_symlinks=False).st_mode
            kind = "executable" if mode & stat.S_IXUSR else "file"
            yield f"{kind} {path}\0", entry
        else:
            raise CacheError(f"{entry.path} is neither a file nor a folder nor a link")


def described(lines: Iterable[str]) -> str:
    """The digest of a folder with that description."""
    tree = hashlib.sha256()
    for line in lines:
        tree.update(os.fsencode(line) + b"\n\0")
    return tree.hexdigest()


def _described(root: Path, found: Iterable[Entry]) -> str:
    return described(
        line + (file_digest(entry.path) if entry else "") for line, entry in listing(root, found)
    )


def tree_digest(root: Path) -> str:
    """SHA-256 over the sorted listing of a folder: paths, kinds, executable bits, file digests.

    Raises `CacheError` for links that leave the folder and for devices, sockets and pipes,
    `OSError` for what cannot be read.
    """
    return _described(root, entries(root))


def kept_digest(root: Path) -> str:
    """The same for a folder to keep. Raises `CacheError` for more than any cache takes, too."""
    return _described(root, _bounded(root))


def _bounded(root: Path) -> Iterator[Entry]:
    """The entries of a folder. Raises `CacheError` where they become more than any cache takes."""
    for number, (path, entry) in enumerate(entries(root), 1):
        if too_much := beyond(path):
            raise CacheError(f"{root}: {too_much}, and no cache takes that")
        if number > MOST_MEMBERS:
            raise CacheError(f"{root} holds more than the {MOST_MEMBERS} files that a cache takes")
        yield path, entry
