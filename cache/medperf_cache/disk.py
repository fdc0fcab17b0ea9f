"""diskcache without pickle: string keys, JSON values or raw bytes, in private folders.

diskcache's own serialiser unpickles whatever it finds on disk (CVE-2025-69872); this one raises
instead. Values always live in SQLite, never in side files, so that a row is all there or absent.
"""

import errno
import json
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
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

    def __init__(self, folder: str, **settings: Any) -> None:
        super().__init__(folder, **settings)
        self.folder = folder

    def put(self, key: Any) -> tuple[Any, bool]:
        """The key as it is stored. Raises `TypeError` unless it is a string."""
        if not isinstance(key, str):
            raise TypeError(f"keys are strings, not {key!r}")
        return stored_key(key), True

    def get(self, key: Any, raw: bool) -> Any:
        """The stored key. Raises `CacheError` if it was pickled."""
        if not raw or not isinstance(key, bytes):
            raise CacheError(f"{self.folder}: refusing a key that this software did not write")
        return key.decode("utf-8", "surrogatepass")

    def store(self, value: Any, read: bool, key: Any = UNKNOWN) -> Any:
        """Bytes as they are, all else as JSON. Raises `TypeError` if JSON cannot express it."""
        if not isinstance(value, bytes):
            value = json.dumps(value, separators=(",", ":"))
        return super().store(value, read, key=key)

    def fetch(self, mode: int, filename: str | None, value: Any, read: bool) -> Any:
        """The stored value. Raises `CacheError` for anything this class did not write."""
        if mode != RAW or not isinstance(value, (bytes, str)):
            raise CacheError(f"{self.folder}: refusing a value that is neither JSON nor bytes")
        return value if isinstance(value, bytes) else json.loads(value)


def stored_key(key: str) -> sqlite3.Binary:
    """A key as bytes: SQLite's text cannot hold names of files that are not UTF-8."""
    return sqlite3.Binary(key.encode("utf-8", "surrogatepass"))


class Reading:
    """Reads a store by keys, and by ranges of them."""

    _sql: Any
    _disk: Any

    def get(self, key: str, default: Any = None) -> Any:
        """The value under a key."""
        columns = "SELECT mode, filename, value FROM Cache WHERE key = ? AND raw = ?"
        row = self._sql(columns, self._disk.put(key)).fetchone()
        return default if row is None else self._disk.fetch(*row, False)

    def __getitem__(self, key: str) -> Any:
        if key not in self:
            raise KeyError(key)
        return self.get(key)

    def __contains__(self, key: str) -> bool:
        found = "SELECT 1 FROM Cache WHERE key = ? AND raw = ?"
        return self._sql(found, self._disk.put(key)).fetchone() is not None

    def __len__(self) -> int:
        return int(self._sql("SELECT COUNT(*) FROM Cache").fetchone()[0])

    def __iter__(self) -> Iterator[str]:
        for key, raw in self._sql("SELECT key, raw FROM Cache ORDER BY key").fetchall():
            yield self._disk.get(key, raw)

    def with_prefix(
        self, prefix: str, last: int | None = None, beyond: str = ""
    ) -> Iterator[tuple[str, Any]]:
        """Keys that begin with `prefix`, in order, and their values, all as of one moment.

        With `last`, only so many from the end, in the opposite order; with `beyond`, only those
        that come after that key.
        """
        rows = self._sql(
            "SELECT key, raw, mode, filename, value FROM Cache"  # nosec B608 # two words of ours
            " WHERE key >= ? AND key < ? AND key > ?"
            f" ORDER BY key {'ASC' if last is None else 'DESC'} LIMIT ?",
            (*_range(prefix), stored_key(beyond), -1 if last is None else last),
        ).fetchall()
        for key, raw, mode, filename, value in rows:
            yield self._disk.get(key, raw), self._disk.fetch(mode, filename, value, False)

    def count_prefix(self, prefix: str) -> int:
        """How many keys begin with `prefix`."""
        counted = "SELECT COUNT(*) FROM Cache WHERE key >= ? AND key < ?"
        return int(self._sql(counted, _range(prefix)).fetchone()[0])

    def copy_to(self, folder: Path) -> None:
        """Write all of it, as of one moment, to a store in a new folder, for this user to open."""
        folder.mkdir(mode=0o700)
        self._sql("VACUUM INTO ?", (str(folder / DBNAME),))


class FrozenStore(Reading, Frozen):
    """A store that can be read and not written."""


class Store(Reading):
    """Keys and values in the table of a diskcache `Cache`, over connections of its own.

    diskcache makes the table. It has no way to read ranges of keys, and opening it anew writes its
    settings once more, one by one: some fifty transactions, each of which waits for other writers
    and, where durable, for the disk. Each thread has its own connection, and so has a process that
    was forked.
    """

    def __init__(self, folder: Path, **settings: Any) -> None:
        self._database, self._synchronous = folder / DBNAME, settings["sqlite_synchronous"]
        if not settings.items() <= _settings(self._database).items():
            Cache(str(folder), timeout=PATIENCE_SECONDS, disk=JsonDisk, **settings).close()
        self._disk, self._local = JsonDisk(str(folder), min_file_size=INLINE), threading.local()
        # Where it cannot be read this way, that is found out now.
        self._sql("SELECT 1 FROM Cache").fetchone()

    @property
    def _connection(self) -> sqlite3.Connection:
        if getattr(self._local, "process", None) != os.getpid():
            self._local.process, self._local.busy = os.getpid(), False
            # Without a level the module begins no transaction of its own.
            connection = sqlite3.connect(self._database, PATIENCE_SECONDS, isolation_level=None)
            connection.execute(f"PRAGMA synchronous = {self._synchronous}")
            self._local.connection = connection
        found: sqlite3.Connection = self._local.connection
        return found

    @property
    def _sql(self) -> Any:
        return self._connection.execute

    def __setitem__(self, key: str, value: Any) -> None:
        size, mode, filename, stored = self._disk.store(value, False, key=key)
        now = time.time()
        self._sql(
            "INSERT INTO Cache"
            " (key, raw, store_time, access_time, access_count, size, mode, filename, value)"
            " VALUES (?, ?, ?, ?, 0, ?, ?, ?, ?) ON CONFLICT (key, raw) DO UPDATE SET"
            " store_time = excluded.store_time, size = excluded.size, mode = excluded.mode,"
            " filename = excluded.filename, value = excluded.value",
            (*self._disk.put(key), now, now, size, mode, filename, stored),
        )

    def pop(self, key: str, default: Any = None) -> Any:
        """Delete a key, if it is there; the value that it had."""
        with self.transact():
            if key not in self:
                return default
            value = self.get(key)
            self._sql("DELETE FROM Cache WHERE key = ? AND raw = ?", self._disk.put(key))
            return value

    def clear(self) -> None:
        """Delete every key."""
        self._sql("DELETE FROM Cache")

    @contextmanager
    def transact(self, retry: bool = False) -> Iterator[None]:
        """Keep all others from writing during the block; it is stored whole or not at all.

        Within another one of this thread it is a part of that. With `retry`, who is waited for may
        take as long as they like.
        """
        connection = self._connection
        if self._local.busy:
            yield
            return
        _begin(connection, retry)
        self._local.busy = True
        try:
            yield
            connection.execute("COMMIT")
        finally:
            self._local.busy = False
            # Where the disk was full, SQLite may have done it.
            if connection.in_transaction:
                connection.execute("ROLLBACK")

    def close(self) -> None:
        """Close this thread's connection; the next use opens another."""
        self._connection.close()
        self._local.process = None


def _begin(connection: sqlite3.Connection, retry: bool) -> None:
    while True:
        try:
            connection.execute("BEGIN IMMEDIATE")
            return
        except sqlite3.OperationalError as error:
            if not retry or error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                raise


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
    `sqlite3.OperationalError`. With `durable` a write that returned survives
    a power cut (SQLite's synchronous=FULL). Where nothing can be written, what is there can still
    be read, be it nothing.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not os.access(folder, os.W_OK | os.X_OK):
            # SQLite would open it where a process that was killed left its index there.
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
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
