"""Write a bundle, file by file as they lie in the cache."""

import io
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from tempfile import mkstemp
from typing import Any, BinaryIO

from medperf_cache.archives import tarfile
from medperf_cache.bundle.background import Background, background
from medperf_cache.bundle.manifest import Document, Head, Manifest, TreeSize
from medperf_cache.bundle.zstd import Compressed
from medperf_cache.digests import CHUNK_BYTES, entries, file_digest, tree_digest
from medperf_cache.errors import CorruptContent
from medperf_cache.storage import Storage

# Called with bytes so far and bytes in all.
Progress = Callable[[int, int], None]
Sign = Callable[[bytes], bytes]


def unwatched(done: int, total: int) -> None:
    """Progress for nobody."""


def write(
    file: Path,
    storage: Storage,
    about: dict[str, Any],
    documents: Mapping[str, Path],
    content: Iterable[str] = (),
    other_side: Iterable[str] = (),
    sign: Sign | None = None,
    progress: Progress = unwatched,
) -> Head:
    """Write a bundle of documents and of the blobs and trees whose digests are in `content`.

    Leaves out what is in `other_side`. The file appears whole or not at all, in place of an
    earlier one. Raises `CorruptContent` if something in the cache is damaged, `OSError` if the
    file cannot be written. Nothing may be removed from the cache meanwhile: see `Storage.in_use`.
    """
    wanted, known = set(content), set(other_side)
    carried = sorted(wanted - known)
    manifest = Manifest(
        about,
        {name: _document(path) for name, path in documents.items()},
        {one: storage.blobs.path(one).stat().st_size for one in carried if one in storage.blobs},
        {one: _tree(storage, one) for one in carried if one not in storage.blobs},
        sorted(wanted & known),
    )
    data = manifest.encoded()
    head = Head(data, manifest, sign(data) if sign else None)
    with (
        _replacing(file) as new,
        background() as writing,
        closing(Compressed(_Target(new, writing))) as target,
        _tar(target) as tar,
    ):
        _Writer(tar, head, progress).write(storage, documents)
    return head


@contextmanager
def _replacing(file: Path) -> Iterator[Path]:
    """A new file that takes this one's place after the block, unless that raises."""
    descriptor, name = mkstemp(dir=file.absolute().parent, prefix=f".{file.name}.")
    os.close(descriptor)
    try:
        yield Path(name)
        os.replace(name, file)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(name)
        raise


class _Target:
    """A file that is written in the background; closing it waits until it is on the disk."""

    def __init__(self, file: Path, writing: Background) -> None:
        self._file, self._writing = file, writing

    def write(self, data: bytes) -> None:
        self._writing.write(self._file, data)

    def close(self) -> None:
        self._writing.settle(self._file)
        self._writing.finish()


def _tar(target: Any) -> Any:
    # Not a stream of tarfile's, which cuts what is written into blocks of 10 KiB.
    return tarfile.open(
        fileobj=target, mode="w", format=tarfile.PAX_FORMAT, copybufsize=CHUNK_BYTES
    )


def _document(path: Path) -> Document:
    return Document(path.stat().st_size, file_digest(path))


def _tree(storage: Storage, digest: str) -> TreeSize:
    """The size of a folder, which is sound."""
    root = storage.trees.path(digest)
    found = tree_digest(root)
    if found != digest:
        raise CorruptContent(f"tree {root}", digest, found, "tree")
    sizes = [
        entry.stat(follow_symlinks=False).st_size if entry.is_file(follow_symlinks=False) else 0
        for _, entry in entries(root)
    ]
    return TreeSize(len(sizes), sum(sizes))


class _Sound:
    """A file that raises `CorruptContent` at its end unless its bytes have their digest."""

    def __init__(self, file: BinaryIO, what: str, expected: str, note: Callable[[int], None]):
        self._file, self._what, self._expected, self._note = file, what, expected, note
        self._digest, self._left = sha256(), os.fstat(file.fileno()).st_size

    def read(self, size: int) -> bytes:
        chunk = self._file.read(size)
        self._digest.update(chunk)
        self._left -= len(chunk)
        self._note(len(chunk))
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
        self._bytes("manifest.json", self._head.data)
        if self._head.signature is not None:
            self._bytes("signature", self._head.signature)
        for name, document in manifest.documents.items():
            self._file(f"documents/{name}", documents[name], document.sha256)
        for digest in manifest.blobs:
            self._file(f"blobs/{digest}", storage.blobs.path(digest), digest)
        for digest in manifest.trees:
            self._tree(digest, storage.trees.path(digest))

    def _add(self, info: Any, content: Any = None) -> None:
        self._tar.addfile(info, content)
        # Not kept: millions of members would fill the memory.
        self._tar.members.clear()

    def _bytes(self, name: str, data: bytes) -> None:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        self._add(info, io.BytesIO(data))

    def _file(self, name: str, path: Path, digest: str) -> None:
        info = tarfile.TarInfo(name)
        with open(path, "rb", buffering=0) as file:
            info.size = os.fstat(file.fileno()).st_size
            self._add(info, _Sound(file, str(path), digest, self._note))

    def _tree(self, digest: str, root: Path) -> None:
        for path, entry in entries(root):
            info = tarfile.TarInfo(f"trees/{digest}/{path}")
            if entry.is_symlink():
                info.type, info.linkname = tarfile.SYMTYPE, os.readlink(entry.path)
                self._add(info)
            elif entry.is_dir():
                info.type, info.mode = tarfile.DIRTYPE, 0o755
                self._add(info)
            else:
                status = entry.stat(follow_symlinks=False)
                info.size = status.st_size
                info.mode = 0o755 if status.st_mode & stat.S_IXUSR else 0o644
                with open(entry.path, "rb", buffering=0) as file:
                    self._add(info, file)
                self._note(info.size)
