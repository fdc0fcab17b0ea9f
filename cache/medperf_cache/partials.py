"""Unfinished downloads: kept over cuts, kills and days, one process at a time for each URL."""

import errno
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

from medperf_cache.blobs import BlobStore
from medperf_cache.digests import CHUNK_BYTES
from medperf_cache.locks import taken
from medperf_cache.scratch import remove_tree

# How much a power cut may cost a download that no hash verifies.
SYNC_BYTES = 64 << 20
# What a download whose size nobody said leaves of the disk: that, or a tenth of a small one.
SPARED_BYTES = 1 << 30
# How often that is looked at.
LOOK_BYTES = 1 << 20


@dataclass(frozen=True)
class Origin:
    """What was said of a file when its first bytes came.

    `validator` is what tells whether the file is still the same, empty if nothing does; `total`
    its size in bytes, None if it cannot be asked for in parts; `kind` its media type, `coding`
    how its bytes are coded (RFC 9110, section 8.4), empty if they are as they should be.
    """

    source: str
    validator: str
    total: int | None
    kind: str
    coding: str = ""


@dataclass(frozen=True)
class Leftover:
    """A file that nothing uses; `used` is its last change (Unix time).

    `kind` is partial, rejected or log; `name` is where a partial one comes from, the SHA-256 of a
    rejected one, the path of a log.
    """

    kind: str
    name: str
    size_bytes: int
    used: float


class Partial:
    """The first bytes of a file, and the hash of them; held by one process.

    `size` counts the bytes that are here, `synced` those that a power cut would leave. It is
    `fresh` while every byte is from one version of one source and came since `begin` in this
    process.
    """

    def __init__(self, folder: Path, blobs: BlobStore, rejected: Path) -> None:
        self._folder, self._blobs, self._rejected = folder, blobs, rejected
        self._content, self._state = folder / "content", folder / "state.json"
        self._aside = folder / "aside"
        self._file = self._open()
        self.origin, synced = _read_state(self._state)
        self.size = self._content.stat().st_size
        # The state may be of more than was left, where a process was killed while it started over.
        self.synced = min(synced, self.size)
        self.fresh = False
        self._hash, self._hashed = sha256(), 0
        self._looked = -LOOK_BYTES
        if self.origin is None:
            self.forget()

    def begin(self, origin: Origin) -> None:
        """Start over with nothing. Raises `OSError` if there is no room for the file."""
        self.forget()
        self.origin, self.fresh = origin, True
        self._check_room()
        self._write_state()

    def go_on(self, origin: Origin) -> None:
        """Append from now on what comes from `origin`. Raises `OSError` if there is no room."""
        before, self.origin = self.origin, origin
        if before != origin or not origin.validator:
            self.fresh = False
        self._check_room()
        self._write_state()

    def append(self, chunk: bytes) -> None:
        """Add bytes. Raises `OSError` if the disk is full; then nothing is kept.

        For a file whose size nobody said it counts as full while there is some room for others.
        """
        self._catch_up()
        try:
            self._check_spared()
            rest = memoryview(chunk)
            while rest:
                rest = rest[os.write(self._file, rest) :]
        except OSError:
            self.forget()
            raise
        self._hash.update(chunk)
        self.size = self._hashed = self.size + len(chunk)
        if self.size - self.synced >= SYNC_BYTES:
            self._sync()

    def shorten(self, size: int) -> None:
        """Keep the first `size` bytes only."""
        if size < self.size:
            os.ftruncate(self._file, size)
            self.size, self.synced = size, min(size, self.synced)
            if self._hashed > size:
                self._hash, self._hashed = sha256(), 0

    def forget(self) -> None:
        """Keep nothing."""
        self.shorten(0)
        self.origin, self.synced = None, 0

    def set_aside(self) -> Path:
        """Start over with nothing; what was here is in the file of this path until `close`."""
        os.rename(self._content, self._aside)
        self._reopen()
        return self._aside

    def digest(self) -> str:
        """The SHA-256 of what is here."""
        self._catch_up()
        return self._hash.hexdigest()

    def publish(self) -> str:
        """Move the file into the cache, as whole and right; returns its SHA-256."""
        digest = self.digest()
        os.fsync(self._file)
        return self._blobs.publish(self._content, digest)

    def reject(self) -> Path:
        """Move the file to where nothing uses it, for somebody to look at; returns its path."""
        self._rejected.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = self._rejected / self.digest()
        os.rename(self._content, path)
        os.chmod(path, 0o400)
        self._reopen()
        return path

    def close(self) -> None:
        """Make what is here last; without anything here leave no trace."""
        unfinished = self.size > 0 and self._content.exists()
        if unfinished:
            # Whatever ends the download, such as a full disk, is what there is to say.
            with suppress(OSError):
                self._sync()
        os.close(self._file)
        self._aside.unlink(missing_ok=True)
        if not unfinished:
            remove_tree(self._folder)

    def _open(self) -> int:
        return os.open(self._content, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def _reopen(self) -> None:
        os.close(self._file)
        self._file = self._open()
        self.forget()

    def _catch_up(self) -> None:
        """Hash what an earlier process left: only once its bytes turn out to be of use."""
        if self._hashed < self.size:
            with open(self._content, "rb", buffering=0) as file:
                file.seek(self._hashed)
                while chunk := file.read(CHUNK_BYTES):
                    self._hash.update(chunk)
            self._hashed = self.size

    def _check_room(self) -> None:
        free = shutil.disk_usage(self._folder).free
        missing = (self.origin.total or 0) - self.size if self.origin else 0
        if missing > free:
            said = f"No space left: {missing} more bytes are needed, {free} are free"
            raise OSError(errno.ENOSPC, said, str(self._folder))

    def _check_spared(self) -> None:
        unknown = self.origin is not None and self.origin.total is None
        if not unknown or abs(self.size - self._looked) < LOOK_BYTES:
            return
        self._looked = self.size
        usage = shutil.disk_usage(self._folder)
        if usage.free < min(SPARED_BYTES, usage.total // 10):
            said = f"No space to spare: {usage.free} bytes are free, and the file's size is unknown"
            raise OSError(errno.ENOSPC, said, str(self._folder))

    def _sync(self) -> None:
        os.fsync(self._file)
        self.synced = self.size
        self._write_state()

    def _write_state(self) -> None:
        """By rename, and after the bytes it speaks of: what it says is true at any moment."""
        assert self.origin is not None
        new = self._folder / "state.new"
        with open(new, "w") as file:
            json.dump({"origin": asdict(self.origin), "synced": self.synced}, file)
            file.flush()
            os.fsync(file.fileno())
        os.rename(new, self._state)


def _read_state(file: Path) -> tuple[Origin | None, int]:
    try:
        state = json.loads(file.read_bytes())
        return Origin(**state["origin"]), int(state["synced"])
    except (OSError, ValueError, TypeError, KeyError):
        return None, 0


class Partials:
    """The unfinished downloads of a cache, by URL, and the files that were rejected.

    Two processes or threads that want the same URL take turns; different URLs do not wait.
    """

    def __init__(self, root: Path, blobs: BlobStore) -> None:
        self._root, self._blobs = root / "partials", blobs
        self._rejected = root / "rejected"

    @contextmanager
    def hold(self, url: str) -> Iterator[Partial]:
        """What is here of a URL, for a block; waits while another process or thread has it.

        What is neither published nor rejected in the block is kept for the next time.
        """
        folder = self._root / sha256(url.encode()).hexdigest()
        with _locked(folder, wait=True):
            partial = Partial(folder, self._blobs, self._rejected)
            try:
                yield partial
            finally:
                partial.close()

    def items(self) -> Iterator[Leftover]:
        """What is unfinished, also where a download goes on now, and what was rejected."""
        for folder in self._root.glob("*"):
            origin, _ = _read_state(folder / "state.json")
            name = origin.source if origin else folder.name
            with suppress(FileNotFoundError):
                yield _leftover("partial", name, folder / "content")
        for file in self._rejected.glob("*"):
            with suppress(FileNotFoundError):
                yield _leftover("rejected", file.name, file)

    def clean(self, unused_for_seconds: float) -> None:
        """Delete what no download touched for that long, and what was rejected before that."""
        limit = time.time() - unused_for_seconds
        for folder in self._root.glob("*"):
            with suppress(FileNotFoundError), _locked(folder, wait=False) as mine:
                newest = max(path.stat().st_mtime for path in (folder, *folder.iterdir()))
                if mine and newest < limit:
                    remove_tree(folder)
        for file in self._rejected.glob("*"):
            with suppress(FileNotFoundError):
                if file.stat().st_mtime < limit:
                    file.unlink()


def _leftover(kind: str, name: str, file: Path) -> Leftover:
    status = file.stat()
    return Leftover(kind, name, status.st_size, status.st_mtime)


@contextmanager
def _locked(folder: Path, wait: bool) -> Iterator[bool]:
    """Hold a folder, made if it is not there; gives False if another has it and `wait` is not set.

    The lock goes with the process, however that ends.
    """
    descriptor = None
    while descriptor is None:
        # Whoever has it may delete it at any moment, and somebody else make it again; also while
        # `mkdir`, which found it there, looks whether it is a folder.
        with suppress(FileExistsError):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with suppress(FileNotFoundError):
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        if descriptor is not None and not _take(descriptor, folder, wait):
            os.close(descriptor)
            descriptor = None
            if not wait:
                yield False
                return
    try:
        yield True
    finally:
        os.close(descriptor)


def _take(descriptor: int, folder: Path, wait: bool) -> bool:
    """Lock an open folder; whether that worked and it is still the one of that name."""
    try:
        held = taken(descriptor, wait=wait)
        return held and os.path.samestat(os.fstat(descriptor), folder.stat())
    except FileNotFoundError:
        return False
