"""What steps computed, by the content of everything that went into them."""

import hashlib
import json
from collections.abc import Callable, Iterator
from typing import Any

from medperf_cache.disk import Store


def memo_key(material: dict[str, Any]) -> str:
    """SHA-256 of the canonical JSON (sorted keys, no spaces) of what decides a step's result."""
    text = json.dumps(material, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


class Memo:
    """Records of finished steps. A record exists only once its outputs do.

    Processes may share it: two that computed the same step store equivalent records.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def get(self, key: str) -> dict[str, Any] | None:
        """The record stored under a key, or None."""
        record: dict[str, Any] | None = self._store.get(f"memo:{key}")
        return record

    def items(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Every key and its record."""
        for key, record in self._store.with_prefix("memo:"):
            yield key.removeprefix("memo:"), record

    def put(self, key: str, record: dict[str, Any]) -> None:
        """Store a record, JSON-able, in place of any earlier one."""
        self._store[f"memo:{key}"] = record

    def drop_unless(self, keep: Callable[[dict[str, Any]], bool]) -> int:
        """Delete the records that `keep` does not want; returns how many."""
        unwanted = [key for key, record in self._store.with_prefix("memo:") if not keep(record)]
        for key in unwanted:
            self._store.pop(key)
        return len(unwanted)
