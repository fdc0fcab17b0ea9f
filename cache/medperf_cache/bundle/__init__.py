"""Carry what a cache holds across an air gap: one file, verified whole before anything is used.

A bundle is a tar archive in one zstd frame. Its members, in this order: `manifest.json`, perhaps
`signature` (Ed25519, of the manifest), `documents/<name>`, `blobs/<sha256>` and
`trees/<digest>/...`. The manifest names every one of them with its size and digest.
"""

from medperf_cache.bundle.manifest import Head, Manifest
from medperf_cache.bundle.reading import Bundle, read_head, verified
from medperf_cache.bundle.writing import Progress, document, write

__all__ = ["Bundle", "Head", "Manifest", "Progress", "document", "read_head", "verified", "write"]
