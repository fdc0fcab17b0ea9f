"""Offline storage: files by content, what was computed from them, the registry's last copy."""

from medperf_cache.catalog import Catalog
from medperf_cache.digests import tree_digest
from medperf_cache.errors import CacheError, CorruptContent, NotCached, UnsafeArchive
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
