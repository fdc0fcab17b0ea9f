"""Write a bundle, file by file as they lie in the cache."""

import json
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO

from medperf_cache.bundle.background import Background, background
from medperf_cache.bundle.manifest import (
    MOST_LINE_BYTES,
    Document,
    Head,
    Manifest,
    TreeSize,
)
from medperf_cache.bundle.zstd import Compressed
from medperf_cache.digests import SHOWN, entries, file_digest, kept_digest
from medperf_cache.errors import CacheError, CorruptContent
from medperf_cache.packing import (
    Watch,
    add_bytes,
    add_file,
    add_folder,
    named,
    open_to_write,
    replacing,
)
from medperf_cache.storage import Storage

# Called with bytes so far and bytes in all.
Progress = Callable[[int, int], None]
Sign = Callable[[bytes], bytes]


def unwatched(done: int, total: int) -> None:
    """Progress for nobody."""


def document(file: Path, rows: Iterable[Any]) -> Path:
    """Write a document, a row a line. Raises `CacheError` for a row that no reader would take."""
    with open(file, "w", encoding="ascii") as lines:
        for row in rows:
            line = json.dumps(row)
            if len(line) > MOST_LINE_BYTES:
                said = f"{line[:SHOWN]}… has {len(line)} bytes as JSON"
                raise CacheError(f"{said}, and a bundle takes {MOST_LINE_BYTES}")
            lines.write(line + "\n")
    return file


def write(
    file: Path,
    storage: Storage,
    about: dict[str, Any],
    documents: Mapping[str, Path],
    content: Iterable[str] = (),
    other_side: Iterable[str] = (),
    sign: Sign | None = None,
    progress: Progress = unwatched,
    watch: Watch | None = None,
) -> Head:
    """Write a bundle of documents and of the blobs and trees whose digests are in `content`.

    Leaves out what is in `other_side`. The file appears whole or not at all, in place of an
    earlier one; `watch` hears of it before. Raises `CorruptContent` if something in the cache is
    damaged, `NotWritable` if the file cannot be written. Nothing may be removed from the cache
    meanwhile: see `Storage.in_use`.
    """
    with replacing(file) as new:
        head = _head(storage, about, documents, set(content), set(other_side), sign)
        if watch is not None:
            watch.begin(head.data)
        with background() as writing:
            out = _Target(new, file, writing)
            with closing(Compressed(out)) as target, open_to_write(target) as tar:
                _Writer(tar, head, progress).write(storage, documents)
            if watch is not None:
                watch.seal(out.digest, out.size_bytes)
    return head


def _head(
    storage: Storage,
    about: dict[str, Any],
    documents: Mapping[str, Path],
    wanted: set[str],
    known: set[str],
    sign: Sign | None,
) -> Head:
    carried = sorted(wanted - known)
    manifest = Manifest(
        about,
        {name: _document(path) for name, path in documents.items()},
        {one: storage.blobs.path(one).stat().st_size for one in carried if one in storage.blobs},
        {one: _tree(storage, one) for one in carried if one not in storage.blobs},
        sorted(wanted & known),
    )
    data = manifest.encoded()
    return Head(data, manifest, sign(data) if sign else None)


class _Target:
    """A file that is written in the background; closing it waits until it is on the disk.

    It is to become `what`.
    """

    def __init__(self, file: Path, what: Path, writing: Background) -> None:
        self._file, self._what, self._writing = file, what, writing
        self._digest, self.size_bytes = sha256(), 0

    @property
    def digest(self) -> str:
        """The SHA-256 of all that was written."""
        return self._writing.hashed(self._digest)

    def write(self, data: bytes) -> None:
        self.size_bytes += len(data)
        self._writing.hash(self._digest, data)
        with named(self._what):
            self._writing.write(self._file, data)

    def close(self) -> None:
        with named(self._what):
            self._writing.settle(self._file)
            self._writing.finish()


def _document(path: Path) -> Document:
    return Document(path.stat().st_size, file_digest(path))


def _tree(storage: Storage, digest: str) -> TreeSize:
    """The size of a folder, which is sound."""
    root = storage.trees.path(digest)
    found = kept_digest(root)
    if found != digest:
        raise CorruptContent(f"tree {root}", digest, found, "tree")
    sizes = [
        entry.stat(follow_symlinks=False).st_size if entry.is_file(follow_symlinks=False) else 0
        for _, entry in entries(root)
    ]
    return TreeSize(len(sizes), sum(sizes))


class _Sound:
    """A file that raises `CorruptContent` at its end unless its bytes have their digest."""

    def __init__(self, file: BinaryIO, what: str, expected: str) -> None:
        self._file, self._what, self._expected = file, what, expected
        self._digest, self._left = sha256(), os.fstat(file.fileno()).st_size

    def fileno(self) -> int:
        return self._file.fileno()

    def read(self, size: int) -> bytes:
        chunk = self._file.read(size)
        self._digest.update(chunk)
        self._left -= len(chunk)
        found = self._digest.hexdigest() if self._left <= 0 else self._expected
        if found != self._expected:
            raise CorruptContent(self._what, self._expected, found, "blob")
        return chunk


class _Writer:
    """Writes the members of one bundle."""

    def __init__(self, tar: Any, head: Head, progress: Progress) -> None:
        self._tar, self._head, self._progress, self._done = tar, head, progress, 0

    def _note(self, count: int) -> None:
        self._done += count
        self._progress(self._done, self._head.manifest.size_bytes)

    def write(self, storage: Storage, documents: Mapping[str, Path]) -> None:
        """Write all of them, in the order that `reading` expects."""
        manifest = self._head.manifest
        add_bytes(self._tar, "manifest.json", self._head.data)
        if self._head.signature is not None:
            add_bytes(self._tar, "signature", self._head.signature)
        for name, document in manifest.documents.items():
            self._file(f"documents/{name}", documents[name], document.sha256)
        for digest in manifest.blobs:
            self._file(f"blobs/{digest}", storage.blobs.path(digest), digest)
        for digest in manifest.trees:
            add_folder(self._tar, f"trees/{digest}/", storage.trees.path(digest), self._note)

    def _file(self, name: str, path: Path, digest: str) -> None:
        with open(path, "rb", buffering=0) as file:
            add_file(self._tar, name, _Sound(file, str(path), digest), self._note)
