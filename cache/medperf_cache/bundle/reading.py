"""Read a bundle that nobody vouches for: all of it is verified, then it may be used."""

import json
import shutil
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

from medperf_cache.archives import Guard, Member, UnpackLimits, tarfile
from medperf_cache.bundle.background import Ahead, Background, ahead, background
from medperf_cache.bundle.manifest import (
    MOST_BYTES,
    MOST_LINE_BYTES,
    Head,
    Manifest,
    TreeSize,
)
from medperf_cache.bundle.writing import Progress, unwatched
from medperf_cache.bundle.zstd import Decompressed
from medperf_cache.digests import CHUNK_BYTES, is_digest
from medperf_cache.errors import CacheError, CorruptContent, UnsafeArchive
from medperf_cache.names import DERIVED, IMAGE
from medperf_cache.signatures import ZSTD, described
from medperf_cache.storage import Storage
from medperf_cache.trees import TreeStore

SIGNATURE_BYTES = 64

# Raises if the bundle is not wanted; called before the rest of it is read.
Accept = Callable[[Head], None]


class Bundle:
    """A bundle whose every byte was verified; its content lies in a scratch folder until used."""

    def __init__(self, head: Head, folder: Path, storage: Storage) -> None:
        self.head, self._folder, self._storage = head, folder, storage
        # Trees are verified by being adopted, here out of everybody's sight.
        self.trees = TreeStore(folder / "trees", folder / "incoming", storage.names)

    def place(self, kind: str, name: str) -> Path:
        """Where a document or blob lies."""
        return self._folder / f"{kind}-{name}"

    def lines(self, name: str) -> Iterator[Any]:
        """What a document holds, line by line; nothing if the bundle has no such document.

        Raises `UnsafeArchive` for a line that is not JSON.
        """
        if name not in self.head.manifest.documents:
            return
        with open(self.place("documents", name), "rb") as file:
            while line := file.readline(MOST_LINE_BYTES + 1):
                if len(line) > MOST_LINE_BYTES:
                    raise UnsafeArchive(
                        f"its {name} has a line of more than {MOST_LINE_BYTES} bytes"
                    )
                try:
                    yield json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise UnsafeArchive(f"its {name} holds what is not JSON: {error}") from error

    def names(self) -> Iterator[tuple[str, str]]:
        """Names and digests. Raises `UnsafeArchive` for a line of another form."""
        for line in self.lines("names"):
            match line:
                case [str(name), str(digest)] if is_digest(digest):
                    yield name, digest
                case _:
                    raise UnsafeArchive("its names hold what is no name and digest")

    def memo(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Keys and records of steps. Raises `UnsafeArchive` for a line of another form."""
        for line in self.lines("memo"):
            match line:
                case [
                    str(key),
                    {"outputs": dict(outputs), "seconds": int() | float()} as record,
                ] if is_digest(key) and all(map(_is_output, outputs.values())):
                    yield key, record
                case _:
                    raise UnsafeArchive("its memo holds what is no record of a step")

    def missing(self) -> list[str]:
        """What the bundle leaves out and is not here either."""
        return [digest for digest in self.head.manifest.left_out if not self._has(digest)]

    def _has(self, digest: str) -> bool:
        return digest in self._storage.blobs or digest in self._storage.trees

    def add_content(self) -> None:
        """Put files, folders and copies of images into the cache; may be repeated if interrupted.

        All of it is what its digest says. What else the bundle says is for `add_results`.
        """
        storage, manifest = self._storage, self.head.manifest
        for digest in manifest.blobs:
            if digest not in storage.blobs:
                storage.blobs.publish(self.place("blobs", digest), digest)
        for digest in manifest.trees:
            if digest not in storage.trees:
                storage.trees.publish(self.trees.path(digest), digest)
        for name, recipe in self.names():
            if name.startswith(IMAGE) and storage.names.get(name) is None:
                # One whose recipe makes up another image is none.
                with suppress(CacheError):
                    storage.images.note(name.removeprefix(IMAGE), recipe)

    def add_results(self, signed_by: str) -> int:
        """Take the maker's word for what URLs held, which image had a name, and what steps gave.

        Only for a bundle that was signed by somebody whose word counts here: nothing of this can be
        verified. `signed_by` tells whose it is, and stays with every result. What the cache knows
        already stays as it is. Returns how many results came.
        """
        storage, taken = self._storage, 0
        for name, digest in self.names():
            if not name.startswith(DERIVED) and storage.names.get(name) is None:
                storage.names.put(name, digest)
        for key, record in self.memo():
            known = storage.memo.get(key) is not None
            if not known and all(self._has(digest) for _, digest in record["outputs"].values()):
                storage.memo.put(key, {**record, "signed_by": signed_by})
                taken += 1
        return taken


def _is_output(output: Any) -> bool:
    match output:
        case ["file" | "directory", str(digest)]:
            return is_digest(digest)
    return False


def read_head(file: Path) -> Head:
    """The beginning of a bundle; the rest is not looked at.

    Raises `UnsafeArchive` if it is no bundle, `OSError` if it cannot be read.
    """
    with _damage(file), _opened(file) as reader:
        return reader.head()


@contextmanager
def verified(
    file: Path, storage: Storage, accept: Accept, progress: Progress = unwatched
) -> Iterator[Bundle]:
    """A bundle, every byte of it verified; nothing of it is in the cache yet.

    Raises `UnsafeArchive` for what is no whole bundle and nothing else, `CacheError` if there is
    no room for it.
    """
    with storage.in_use(), storage.scratch() as folder, _opened(file) as reader:
        with _damage(file):
            head = reader.head()
        accept(head)
        bundle = Bundle(head, folder, storage)
        _require_room(bundle, folder)
        with _damage(file):
            reader.stage(bundle, lambda done: progress(done, head.manifest.size_bytes))
            for lines in (bundle.names(), bundle.memo()):
                deque(lines, maxlen=0)
        yield bundle


@contextmanager
def _damage(file: Path) -> Iterator[None]:
    """Name the file, and what is wrong with it; tarfile lets errors of nearly any type out."""
    try:
        yield
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        kind = "" if ZSTD.begins(file) else described(file)
        said = f"it is {kind}" if kind else str(error) or type(error).__name__
        raise UnsafeArchive(f"{file} is no bundle, or is damaged: {said}") from error


@contextmanager
def _opened(file: Path) -> Iterator["_Reader"]:
    with (
        open(file, "rb") as source,
        background() as writing,
        ahead(Decompressed(source)) as reading,
    ):
        yield _Reader(reading, writing)


def _require_room(bundle: Bundle, folder: Path) -> None:
    manifest = bundle.head.manifest
    needed, free = manifest.size_bytes, shutil.disk_usage(folder).free
    if needed > free:
        raise CacheError(f"the bundle takes {needed} bytes, and {free} are free at {folder}")


class _Reader:
    """Takes the members of a bundle in the order that its manifest gives; all else is refused."""

    def __init__(self, source: Ahead, background: Background) -> None:
        self._source, self._background = source, background
        self._ahead: list[Any] = []
        self._progress: Callable[[int], None] = lambda done: None
        self._done = 0

    @cached_property
    def _tar(self) -> Any:
        return tarfile.open(
            fileobj=self._source,
            mode="r|",
            bufsize=CHUNK_BYTES,
            copybufsize=CHUNK_BYTES,
            tarinfo=Member,
            errorlevel=2,
        )

    def head(self) -> Head:
        """The manifest and the signature."""
        data = self._read("manifest.json", MOST_BYTES)
        following = self._peek()
        signed = following is not None and following.name == "signature"
        signature = self._read("signature", SIGNATURE_BYTES) if signed else None
        return Head(data, Manifest.decoded(data), signature)

    def stage(self, bundle: Bundle, progress: Callable[[int], None]) -> None:
        """Take everything else, verified, into the bundle's folder, up to the very last byte."""
        manifest = bundle.head.manifest
        self._progress = progress
        for name, document in manifest.documents.items():
            member = self._file(f"documents/{name}", document.bytes)
            self._save(member, bundle.place("documents", name), document.sha256)
        for digest, size in manifest.blobs.items():
            member = self._file(f"blobs/{digest}", size)
            self._save(member, bundle.place("blobs", digest), digest)
        for digest, tree in manifest.trees.items():
            self._tree(bundle, digest, tree)
            self._note(tree.bytes)
        self._end()
        self._background.finish()

    def _note(self, count: int) -> None:
        self._done += count
        self._progress(self._done)

    def _peek(self) -> Any:
        """The member to come; None at the archive's end."""
        if not self._ahead:
            self._ahead.append(self._tar.next())
        return self._ahead[0]

    def _next(self, name: str) -> Any:
        member = self._peek()
        self._ahead.clear()
        # Not kept: millions of members would fill the memory.
        self._tar.members.clear()
        if member is None:
            raise UnsafeArchive(f"it ends before {name}")
        return member

    def _file(self, name: str, size: int | None = None) -> Any:
        member = self._next(name)
        if member.name != name or member.type != tarfile.REGTYPE or member.issparse():
            raise UnsafeArchive(f"it holds {member.name!r} where the file {name!r} should be")
        if size is not None and member.size != size:
            raise UnsafeArchive(f"{name} has {member.size} bytes, and {size} in the manifest")
        return member

    def _read(self, name: str, most: int) -> bytes:
        member = self._peek()
        if member is not None and member.size > most:
            raise UnsafeArchive(f"its {member.name!r} has {member.size} bytes")
        data: bytes = self._tar.extractfile(self._file(name)).read()
        return data

    def _save(self, member: Any, path: Path, expected: str) -> None:
        digest = sha256()
        self._background.write(path, b"")
        with self._tar.extractfile(member) as source:
            while chunk := source.read(CHUNK_BYTES):
                self._background.write(path, chunk)
                self._background.hash(digest, chunk)
                self._note(len(chunk))
        self._background.settle(path)
        found = self._background.hashed(digest)
        if found != expected:
            raise CorruptContent(member.name, expected, found)

    def _tree(self, bundle: Bundle, digest: str, tree: TreeSize) -> None:
        most = UnpackLimits()
        if tree.members > most.members:
            raise UnsafeArchive(f"tree {digest} has more than {most.members} members")
        guard = Guard(UnpackLimits(tree.bytes, tree.members, most.depth))
        prefix = f"trees/{digest}/"
        folder = bundle.place("trees", digest)
        folder.mkdir()
        for _ in range(tree.members):
            member = self._next(prefix)
            sound = member.isdir() or member.issym() or member.type == tarfile.REGTYPE
            if not sound or not member.name.startswith(prefix) or member.issparse():
                raise UnsafeArchive(f"{member.name!r} is nothing that belongs in {prefix}")
            inside = member.replace(name=member.name.removeprefix(prefix), deep=False)
            self._tar.extract(inside, folder, filter=guard)
        found = bundle.trees.adopt(folder)
        if found != digest:
            raise CorruptContent(prefix, digest, found)

    def _end(self) -> None:
        following = self._peek()
        if following is not None:
            raise UnsafeArchive(f"it holds {following.name!r}, which is not in its manifest")
        rest = self._tar.fileobj.read(tarfile.RECORDSIZE + 1)
        # Read to the end of the stream: only there is known that it was not cut off.
        if rest.strip(b"\0") or len(rest) > tarfile.RECORDSIZE:
            raise UnsafeArchive("something follows its end")
