"""Digests of files and folders outside the cache: read on all cores, remembered while unchanged."""

import hashlib
import os
import sqlite3
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

from medperf_cache.digests import Entry, described, entries, file_digest, listing
from medperf_cache.disk import Store
from medperf_cache.errors import CacheError, NotWritable

if TYPE_CHECKING:  # Where hardly anything is to be read, nobody pays for them.
    from concurrent.futures import Future, ThreadPoolExecutor

    from medperf_cache.helper import Helper

# A file changed within one tick of the file system's clock after it was read would look unchanged
# (git calls such entries "racily clean"), so a file that young is not remembered.
FINE_TICK_NS, COARSE_TICK_NS = 50_000_000, 2_000_000_000
YOUNG = "young"
# More readers than this no disk keeps busy, and each takes memory.
MOST_READERS = 8
# What a reader takes at a time, unless it is a single file.
BATCH_FILES, BATCH_BYTES = 500, 16 << 20
# How often progress is told, and what was read is remembered.
TELL_SECONDS, REMEMBER_SECONDS = 0.1, 10.0
DIGEST_LENGTH = 64

# Called with (what, bytes so far, bytes in all or None) while something long goes on.
Progress = Callable[[str, int, int | None], None]
# By the names of files: the signature of each (size, times, inode), and after it the digest. A file
# that is yet to be read has none, and one that was too young another word for a signature.
Row = dict[str, str]


def silent(what: str, done: int, total: int | None) -> None:
    """Progress for nobody."""


class Fingerprints:
    """Digests of files and folders outside the cache, remembered while their status is the same.

    As git's index does: size, modification and change time, and inode decide whether a file is
    read again. As many files are read at once as there are cores for this process: large ones by
    threads, small ones by processes where those can be started. `progress` is told of the bytes, by
    one thread at a time, while there is something to read. What was read when this is interrupted,
    or some seconds before it is killed, is remembered, where that can be written. Processes may
    share it; the last one to look at a path is remembered.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def digest(self, path: Path, progress: Progress = silent, again: bool = False) -> str:
        """The digest of a file (of its bytes) or of a folder (see `tree_digest`).

        With `again` all of it is read, whatever is remembered. Raises `OSError` naming what cannot
        be read, or vanished meanwhile.
        """
        path = path.resolve()
        status = path.stat()
        with _Look(self._store, f"hashing {path}", progress, again) as look:
            if stat.S_ISDIR(status.st_mode):
                return described(look.at_folder(path, entries(path)))
            if not stat.S_ISREG(status.st_mode):
                raise CacheError(f"{path} is neither a file nor a folder")
            file = look.at(str(path), "", status)
            look.finish()
            return file.digest

    def parts(
        self, folder: Path, groups: Iterable[Iterable[str]], progress: Progress = silent
    ) -> list[str]:
        """The digest of a folder that has only those entries of this one, for each group of names.

        What is in none counts for nothing, and what is not there is in none. Raises `OSError` as
        `digest` does.
        """
        folder = folder.resolve()
        of_entry: dict[str, list[str]] = {}
        with _Look(self._store, f"hashing {folder}", progress) as look:
            found = list(entries(folder))
            for (path, _), line in zip(found, look.at_folder(folder, found), strict=True):
                of_entry.setdefault(path.partition("/")[0], []).append(line)
        # In the order of the whole, whatever that of a group is.
        order = {name: number for number, name in enumerate(of_entry)}
        return [
            described(
                line
                for name in sorted(set(group) & order.keys(), key=order.__getitem__)
                for line in of_entry[name]
            )
            for group in groups
        ]

    def folder_hash(self, *folders: Path, called: str = "", progress: Progress = silent) -> str:
        """MedPerf's hash of folders: of what their files hold, wherever and however often.

        It is the SHA-256 of the files' own, sorted and put together as text. Names do not count,
        nor what is in folders behind links. `called` is what people call the folders. Raises
        `OSError` as `digest` does.
        """
        what = called or " and ".join(dict.fromkeys(map(str, folders)))
        with _Look(self._store, f"hashing {what}", progress) as look:
            files = [
                look.at_entry(entry)
                for folder in folders
                for _, entry in entries(folder.resolve())
                if entry.is_file()
            ]
            look.finish()
        digests = sorted(file.digest for file in files)
        return hashlib.sha256("".join(digests).encode()).hexdigest()

    def forget_missing(self, but_below: Iterable[Path] = ()) -> None:
        """Drop what is remembered of paths that are gone, but not of what comes and goes."""
        kept = tuple(f"{root}/" for root in but_below)
        for key in list(self._store):
            prefix, _, path = key.partition(":")
            if prefix == "fingerprint" and not path.startswith(kept) and not os.path.lexists(path):
                self._store.pop(key)


@dataclass
class _Row:
    """A folder's files, or one file without a name: as remembered, as seen now."""

    path: str
    known: Row
    seen: Row = field(default_factory=dict)
    changed: bool = False


class _File(NamedTuple):
    row: _Row
    name: str

    @property
    def path(self) -> str:
        return f"{self.row.path}/{self.name}" if self.name else self.row.path

    @property
    def digest(self) -> str:
        """Its digest, once it was read."""
        return self.row.seen[self.name][-DIGEST_LENGTH:]

    def note(self, digest: str) -> None:
        """Have this digest."""
        self.row.seen[self.name] += f" {digest}"
        self.row.changed = True


class _Interrupted(Exception):
    """Nobody waits for what a thread reads any more."""


class _Look:
    """One look at files: those that are as they were are known, the others are read meanwhile."""

    def __init__(self, store: Store, what: str, progress: Progress, again: bool = False) -> None:
        self._store, self._what, self._progress, self._again = store, what, progress, again
        self._rows: dict[str, _Row] = {}
        self._batch: list[_File] = []
        self._batch_bytes = 0
        self._readers: ThreadPoolExecutor | None = None
        self._cores = min(len(os.sched_getaffinity(0)), MOST_READERS)
        self._helpers: list[Helper] = []
        self._reading: list[Future[None]] = []
        self._bytes = self._known_bytes = self._read_bytes = 0
        # Of the readers, and of what they tell.
        self._lock, self._interrupted, self._all_seen = Lock(), False, False
        self._told_at = self._remembered_at = time.monotonic()
        # Nothing is read earlier.
        self._began_ns = time.time_ns()

    def __enter__(self) -> "_Look":
        return self

    def __exit__(self, *_: object) -> None:
        self._interrupted = True
        if self._readers is not None:
            self._readers.shutdown(cancel_futures=True)
        for helper in self._helpers:
            helper.close()
        self._remember()

    def at_folder(self, folder: Path, found: Iterable[Entry]) -> Iterator[str]:
        """The lines of a folder's description that are of these entries, once all is read."""
        looked = [
            (line, self.at_entry(entry, follow=False) if entry else None)
            for line, entry in listing(folder, found)
        ]
        self.finish()
        return (line + (file.digest if file else "") for line, file in looked)

    def at_entry(self, entry: os.DirEntry[str], follow: bool = True) -> _File:
        """A file in a folder; `follow` says whether it may be a link to one."""
        folder, _, name = entry.path.rpartition("/")
        return self.at(folder, name, entry.stat(follow_symlinks=follow))

    def at(self, folder: str, name: str, status: os.stat_result) -> _File:
        """A file that has that status; its digest is there after `finish`."""
        row = self._rows.get(folder)
        if row is None:
            known = {} if self._again else self._store.get(f"fingerprint:{folder}") or {}
            row = self._rows[folder] = _Row(folder, known, changed=self._again)
        file = _File(row, name)
        if name in row.seen:
            return file
        size, modified, changed = status.st_size, status.st_mtime_ns, status.st_ctime_ns
        signature = f"{size} {modified} {changed} {status.st_ino}"
        self._bytes += size
        known = row.known.get(name)
        if known is not None and known[: -DIGEST_LENGTH - 1] == signature:
            row.seen[name] = known
            self._known_bytes += size
        else:
            row.seen[name] = YOUNG if self._is_young(max(modified, changed)) else signature
            self._to_read(file, size)
        return file

    def _is_young(self, changed_ns: int) -> bool:
        tick = FINE_TICK_NS if changed_ns % 1_000_000_000 else COARSE_TICK_NS
        return changed_ns > self._began_ns - tick

    def _to_read(self, file: _File, size: int) -> None:
        if size >= BATCH_BYTES:
            self._submit([file], size)
            return
        self._batch.append(file)
        self._batch_bytes += size
        if len(self._batch) == BATCH_FILES or self._batch_bytes >= BATCH_BYTES:
            self._submit(self._batch, self._batch_bytes)
            self._batch, self._batch_bytes = [], 0

    def _submit(self, batch: list[_File], size: int) -> None:
        if self._readers is None:
            from concurrent.futures import ThreadPoolExecutor

            self._readers = ThreadPoolExecutor(self._cores)
        self._reading.append(self._readers.submit(self._read_apart, batch, size))
        self._remember_when_due()

    def finish(self) -> None:
        """Wait until all that was looked at is read. Raises what reading it did."""
        self._all_seen = True
        for row in self._rows.values():
            # What vanished is to be forgotten.
            row.changed |= len(row.seen) < len(row.known)
            row.known = {}
        unread = bool(self._reading or self._batch)
        self._read(self._batch)
        for reading in self._reading:
            self._wait_for(reading)
        if unread:
            self._progress(self._what, self._bytes, self._bytes)

    def _wait_for(self, reading: "Future[None]") -> None:
        from concurrent.futures import wait

        while not reading.done():
            wait([reading], REMEMBER_SECONDS)
            self._remember_when_due()
        reading.result()

    def _read_apart(self, batch: list[_File], size: int) -> None:
        """Read files in another process, where that is faster and can be done."""
        helper = self._helper() if self._cores > 1 and len(batch) > 1 else None
        digests = helper.digests([file.path for file in batch]) if helper else None
        if helper:
            self._helpers.append(helper)
        if digests is None:
            self._read(batch)
            return
        for file, digest in zip(batch, digests, strict=True):
            file.note(digest)
        self._tell(size)

    def _helper(self) -> "Helper | None":
        from medperf_cache.helper import Helper

        try:
            return self._helpers.pop()
        except IndexError:
            with suppress(OSError):
                return Helper()
            return None

    def _read(self, batch: list[_File]) -> None:
        for file in batch:
            file.note(file_digest(file.path, self._tell))

    def _tell(self, read: int) -> None:
        with self._lock:
            if self._interrupted:
                raise _Interrupted
            self._read_bytes += read
            now = time.monotonic()
            if now >= self._told_at + TELL_SECONDS:
                self._told_at = now
                # A file may have grown.
                done = min(self._known_bytes + self._read_bytes, self._bytes)
                self._progress(self._what, done, self._bytes if self._all_seen else None)

    def _remember_when_due(self) -> None:
        if time.monotonic() >= self._remembered_at + REMEMBER_SECONDS:
            self._remember()
            self._remembered_at = time.monotonic()

    def _remember(self) -> None:
        rows = [row for row in self._rows.values() if row.changed]
        if not rows:
            return
        # What cannot be remembered is read again the next time.
        with suppress(NotWritable, sqlite3.OperationalError), self._store.transact():
            for row in rows:
                # What a thread reads from here on is remembered the next time.
                row.changed = False
                self._store[f"fingerprint:{row.path}"] = {**row.known, **row.seen}
