"""Stores that can be read and not written: on a read-only file system, or a full disk.

SQLite keeps an index of what was written last beside a database, and cannot read without a place
for it. Where there is none, the database is opened as what nobody changes, or as a copy.
"""

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

from medperf_cache.errors import NotWritable

# Where there may be room when a disk is full.
MEMORY = "/dev/shm"  # nosec B108 # a folder of ours is made in it


class Frozen:
    """The connection of a store for reading; every method that writes raises `NotWritable`.

    For one thread at a time. `why` is what kept the store from being opened as usual.
    """

    def __init__(self, database: Path, disk: Any, why: Exception) -> None:
        self._database, self._disk, self._why = database, disk, why
        self._copy: tempfile.TemporaryDirectory[str] | None = None
        self._connection = self._opened()

    @contextmanager
    def transact(self, retry: bool = False) -> Iterator[None]:
        """For a block that only reads: nobody writes anyway."""
        yield

    def __setitem__(self, key: str, value: Any) -> None:
        self._refuse()

    def pop(self, key: str, default: Any = None) -> NoReturn:
        """See the class."""
        self._refuse()

    def clear(self, retry: bool = False) -> NoReturn:
        """See the class."""
        self._refuse()

    @property
    def _sql(self) -> Any:
        return self._connection.execute

    def _refuse(self) -> NoReturn:
        folder = self._database.parent
        nearest = folder if folder.exists() else folder.parent
        if nearest.exists() and not os.access(nearest, os.W_OK):
            raise NotWritable(
                f"{folder} can only be read. Mount it writable, or set MEDPERF_HOME to a folder "
                "that you can write to."
            )
        raise NotWritable(
            f"{folder} cannot be written to: {self._why}. Make room there, or set MEDPERF_HOME to "
            "a folder that you can write to."
        )

    def _opened(self) -> sqlite3.Connection:
        if not self._database.exists():
            return _with_table(sqlite3.connect(":memory:", check_same_thread=False))
        log = self._database.with_name(f"{self._database.name}-wal")
        with suppress(sqlite3.OperationalError):
            return _connected(self._database, "mode=ro")
        if not log.exists() or not log.stat().st_size:
            return _connected(self._database, "mode=ro&immutable=1")
        # What was written last is in the log alone.
        try:
            return self._copied(log, None)
        except (OSError, sqlite3.OperationalError):
            return self._copied(log, MEMORY)

    def _copied(self, log: Path, place: str | None) -> sqlite3.Connection:
        self._copy = tempfile.TemporaryDirectory(prefix="medperf-", dir=place)
        for file in (self._database, log):
            shutil.copyfile(file, Path(self._copy.name, file.name))
        return _connected(Path(self._copy.name, self._database.name), "mode=rw")


def _connected(database: Path, how: str) -> sqlite3.Connection:
    """A connection that has read something. Raises `sqlite3.OperationalError` if it cannot."""
    uri = f"{database.absolute().as_uri()}?{how}"
    connection = sqlite3.connect(uri, uri=True, check_same_thread=False)
    try:
        return _with_table(connection)
    except sqlite3.Error:
        connection.close()
        raise


def _with_table(connection: sqlite3.Connection) -> sqlite3.Connection:
    """The connection; where its database was never made, or not completed, an empty table."""
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'Cache'").fetchone():
        connection.execute("CREATE TEMP TABLE Cache (key, raw, mode, filename, value)")
    return connection
