"""Offline storage: files by content, what was computed from them, the registry's last copy."""

from typing import TYPE_CHECKING, Any

from medperf_cache.digests import tree_digest
from medperf_cache.errors import CacheError, CorruptContent, NotCached, UnsafeArchive

if TYPE_CHECKING:
    from medperf_cache.catalog import Catalog
    from medperf_cache.storage import Storage

__all__ = [
    "CacheError",
    "Catalog",
    "CorruptContent",
    "NotCached",
    "Storage",
    "UnsafeArchive",
    "tree_digest",
]


def __getattr__(name: str) -> Any:
    """Import what opens databases when it is first asked for (PEP 562).

    Lists do without the storage, and a step that is done elsewhere without either.
    """
    if name == "Catalog":
        from medperf_cache.catalog import Catalog

        return Catalog
    if name == "Storage":
        from medperf_cache.storage import Storage

        return Storage
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
