"""What an image is called by: the digests of its manifests and indexes, beside its configuration's.

An index names manifests, a manifest names a configuration, each by its SHA-256 (OCI image
specification). So whoever has these documents can tell which image a digest of any of them means,
and takes nobody's word for it.
"""

import json
from collections.abc import Mapping
from typing import Any

# Of the index of many processors' manifests, or the manifest of many layers. Real ones are smaller.
MOST_DOCUMENT_BYTES = 4 << 20

# Of an engine's or an index's words for a processor: what has to agree.
Platform = Mapping[str, Any]


class Manifests:
    """The manifests and indexes among files that are shown to it."""

    def __init__(self) -> None:
        self._configs: dict[str, str] = {}
        self._indexes: dict[str, list[tuple[str, Platform]]] = {}

    def see(self, digest: str, content: bytes) -> None:
        """Take note of a file, by its SHA-256, if it is one of them."""
        if not content.startswith(b"{"):
            return
        try:
            match json.loads(content):
                case {"config": {"digest": str(config)}, "layers": list()}:
                    self._configs[digest] = _plain(config)
                case {"manifests": list(entries)}:
                    self._indexes[digest] = [_entry(one) for one in entries]
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return

    def named(self, digest: str) -> list[str]:
        """What a manifest or an index names: its configuration, or its manifests."""
        if digest in self._configs:
            return [self._configs[digest]]
        return [manifest for manifest, _ in self._indexes.get(digest, ())]

    def fitting(self, digest: str, platform: Platform) -> list[str]:
        """The manifests that an index has for a platform."""
        return [one for one, its in self._indexes.get(digest, ()) if _fits(its, platform)]

    def way(self, digest: str, platform: Platform) -> list[str]:
        """The digests from a manifest or an index down to the configuration that it means.

        Of several manifests the one for that platform counts. Empty as long as that is not known.
        """
        if digest in self._configs:
            return [digest, self._configs[digest]]
        for manifest in self.fitting(digest, platform):
            below = self.way(manifest, platform)
            if below:
                return [digest, *below]
        return []

    def leading_to(self, config: str) -> set[str]:
        """The digests of what leads to a configuration, and its own."""
        found = {config} | {one for one, its in self._configs.items() if its == config}
        # An index of indexes is rare, and no deeper than that.
        for _ in range(2):
            found |= {
                one
                for one, entries in self._indexes.items()
                if any(manifest in found for manifest, _ in entries)
            }
        return found


def _entry(entry: Mapping[str, Any]) -> tuple[str, Platform]:
    return _plain(entry["digest"]), dict(entry.get("platform") or {})


def _fits(its: Platform, wanted: Platform) -> bool:
    return all(
        not its.get(name) or not wanted.get(name) or its[name] == wanted[name]
        for name in ("os", "architecture", "variant")
    )


def _plain(digest: str) -> str:
    return digest.removeprefix("sha256:")
