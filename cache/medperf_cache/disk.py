"""diskcache without pickle: string keys, JSON values or raw bytes, in private folders.

diskcache's own serialiser unpickles whatever it finds on disk (CVE-2025-69872); this one raises
instead. Values always live in SQLite, never in side files, so that a row is all there or absent.
"""

import json
from pathlib import Path
from typing import Any

from diskcache import UNKNOWN, Cache, Disk

INLINE = 2**31 - 1
RAW = 1


class JsonDisk(Disk):
    """Keys are strings; a value is bytes, or anything that JSON can express."""

    def put(self, key: Any) -> tuple[Any, bool]:
        """The key as it is stored. Raises `TypeError` unless it is a string."""
        if not isinstance(key, str):
            raise TypeError(f"keys are strings, not {key!r}")
        return key, True

    def get(self, key: Any, raw: bool) -> Any:
        """The stored key. Raises `ValueError` if it was pickled."""
        if not raw or not isinstance(key, str):
            raise ValueError("refusing a key that is not a plain string")
        return key

    def store(self, value: Any, read: bool, key: Any = UNKNOWN) -> Any:
        """Bytes as they are, all else as JSON. Raises `TypeError` if JSON cannot express it."""
        if not isinstance(value, bytes):
            value = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
        return super().store(value, read, key=key)

    def fetch(self, mode: int, filename: str | None, value: Any, read: bool) -> Any:
        """The stored value. Raises `ValueError` for anything this class did not write."""
        if mode != RAW or not isinstance(value, (bytes, str)):
            raise ValueError("refusing a value that is neither JSON nor bytes")
        return value if isinstance(value, bytes) else json.loads(value)


def open_store(folder: Path, durable: bool = False) -> Cache:
    """The key-value store in `folder`, made if it is not there (mode 0700). Nothing is evicted.

    Processes and threads may share it: each write is one SQLite transaction, readers never wait,
    a writer that waits for more than 60 s gets `diskcache.Timeout`. With `durable` a write that
    returned survives a power cut (SQLite's synchronous=FULL).
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return Cache(
        str(folder),
        disk=JsonDisk,
        eviction_policy="none",
        size_limit=2**60,
        cull_limit=0,
        disk_min_file_size=INLINE,
        sqlite_synchronous=2 if durable else 1,
    )
