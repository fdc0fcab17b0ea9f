"""diskcache without pickle: string keys, JSON values or raw bytes, in private folders.

diskcache's own serialiser unpickles whatever it finds on disk (CVE-2025-69872); this one raises
instead. Values always live in SQLite, never in side files, so that a row is all there or absent.
"""

import errno
import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, cast

from diskcache import UNKNOWN, Cache, Disk
from diskcache.core import DBNAME

from medperf_cache.errors import CacheError
from medperf_cache.frozen import Frozen

INLINE = 2**31 - 1
RAW = 1
PATIENCE_SECONDS = 60
# What making a file fails with where there is no room, or none for this user.
NO_PLACE = (errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EACCES)
# The last thing that diskcache makes in a new database.
COMPLETE = "SELECT 1 FROM sqlite_master WHERE name = 'Settings_size_delete'"


class JsonDisk(Disk):
    """Keys are strings; a value is bytes, or anything that JSON can express."""

    def put(self, key: Any) -> tuple[Any, bool]:
        """The key as it is stored. Raises `TypeError` unless it is a string."""
        if not isinstance(key, str):
            raise TypeError(f"keys are strings, not {key!r}")
        return stored_key(key), True

    def get(self, key: Any, raw: bool) -> Any:
        """The stored key. Raises `CacheError` if it was pickled."""
        if not raw or not isinstance(key, bytes):
            raise CacheError(f"{self._directory}: refusing a key that this software did not write")
        return key.decode("utf-8", "surrogatepass")

    def store(self, value: Any, read: bool, key: Any = UNKNOWN) -> Any:
        """Bytes as they are, all else as JSON. Raises `TypeError` if JSON cannot express it."""
        if not isinstance(value, bytes):
            value = json.dumps(value, separators=(",", ":"))
        return super().store(value, read, key=key)

    def fetch(self, mode: int, filename: str | None, value: Any, read: bool) -> Any:
        """The stored value. Raises `CacheError` for anything this class did not write."""
        if mode != RAW or not isinstance(value, (bytes, str)):
            raise CacheError(f"{self._directory}: refusing a value that is neither JSON nor bytes")
        return value if isinstance(value, bytes) else json.loads(value)


def stored_key(key: str) -> sqlite3.Binary:
    """A key as bytes: SQLite's text cannot hold names of files that are not UTF-8."""
    return sqlite3.Binary(key.encode("utf-8", "surrogatepass"))


class Ranges:
    """Reads a store by ranges of keys."""

    _sql: Any
    _disk: Any

    def with_prefix(self, prefix: str, last: int | None = None) -> Iterator[tuple[str, Any]]:
        """Keys that begin with `prefix`, in order, and their values, all as of one moment.

        With `last`, only so many from the end, in the opposite order.
        """
        rows = self._sql(
            "SELECT key, raw, mode, filename, value FROM Cache"  # nosec B608 # two words of ours
            f" WHERE key >= ? AND key < ? ORDER BY key {'ASC' if last is None else 'DESC'} LIMIT ?",
            (*_range(prefix), -1 if last is None else last),
        ).fetchall()
        for key, raw, mode, filename, value in rows:
            yield self._disk.get(key, raw), self._disk.fetch(mode, filename, value, False)

    def count_prefix(self, prefix: str) -> int:
        """How many keys begin with `prefix`."""
        counted = "SELECT COUNT(*) FROM Cache WHERE key >= ? AND key < ?"
        return int(self._sql(counted, _range(prefix)).fetchone()[0])


class FrozenStore(Ranges, Frozen):
    """A store that can be read and not written."""


class Store(Ranges, Cache):
    """diskcache's `Cache`, which can also be read by ranges of keys, and opened without writing."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        known = _settings(folder / DBNAME)
        if not settings.items() <= known.items():
            super().__init__(str(folder), timeout=PATIENCE_SECONDS, disk=JsonDisk, **settings)
            return
        # What diskcache does but for writing the same settings again, one by one: some fifty
        # transactions, each of which waits for other writers and, where durable, for the disk.
        self._directory, self._timeout = str(folder), PATIENCE_SECONDS
        self._local, self._txn_id = threading.local(), None
        self._disk = JsonDisk(self._directory, min_file_size=known["disk_min_file_size"])
        for name, value in known.items():
            setattr(self, name, value)
        self._page_size = self._sql("PRAGMA page_size").fetchone()[0]


def _settings(database: Path) -> dict[str, Any]:
    """The settings of a store; none if it is not there, or was not completed."""
    try:
        # Nobody holds it long, but its first opener, and the last one to close it.
        address = f"{database.absolute().as_uri()}?mode=rw"
        with closing(sqlite3.connect(address, uri=True)) as connection:
            known = dict(connection.execute("SELECT key, value FROM Settings").fetchall())
            return known if connection.execute(COMPLETE).fetchone() else {}
    except sqlite3.OperationalError:
        return {}


def _range(prefix: str) -> tuple[bytes, bytes]:
    """The first key with a prefix, and what is beyond the last."""
    first = bytes(stored_key(prefix))
    return first, first + b"\xff"


def open_store(folder: Path, durable: bool = False) -> Store:
    """The key-value store in `folder`, made if it is not there (mode 0700). Nothing is evicted.

    Processes and threads may share it: each write is one SQLite transaction; readers do not wait,
    but writing, and the first opening, wait for who is writing, and after 60 s raise
    `diskcache.Timeout` or `sqlite3.OperationalError`. With `durable` a write that returned survives
    a power cut (SQLite's synchronous=FULL). Where nothing can be written, what is there can still
    be read, be it nothing.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return Store(
            folder,
            eviction_policy="none",
            size_limit=2**60,
            cull_limit=0,
            disk_min_file_size=INLINE,
            sqlite_synchronous=2 if durable else 1,
        )
    except (sqlite3.OperationalError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in NO_PLACE:
            raise
        try:
            # It has all of a store that is used here.
            return cast(Store, FrozenStore(folder / DBNAME, JsonDisk(str(folder)), error))
        except (sqlite3.Error, OSError):
            # There is nothing to read, either.
            raise error from None
