"""What a bundle holds: names, sizes and digests of all its members, and what it leaves out."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any

from medperf_cache.digests import is_digest
from medperf_cache.errors import CacheError, UnsafeArchive

FORMAT = "medperf-bundle-1"
# It is held in memory: enough for a quarter of a million files and folders.
MOST_BYTES = 32 << 20
# Of one line of a document, without its end.
MOST_LINE_BYTES = 16 << 20


@dataclass(frozen=True)
class Document:
    """A file of JSON lines: its size, and the SHA-256 of its bytes."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class TreeSize:
    """How many files, folders and links a folder holds, and how many bytes its files have."""

    members: int
    bytes: int


@dataclass(frozen=True)
class Manifest:
    """What a bundle holds.

    `about` is what its maker says of it. `blobs` maps SHA-256s to sizes in bytes, `trees` digests
    of folders to theirs; `left_out` are digests of what belongs to it and the other side has.
    """

    about: dict[str, Any]
    documents: Mapping[str, Document]
    blobs: Mapping[str, int]
    trees: Mapping[str, TreeSize]
    left_out: list[str]

    @property
    def size_bytes(self) -> int:
        """What all of it takes when unpacked."""
        files = [*self.blobs.values(), *(one.bytes for one in self.documents.values())]
        return sum(files) + sum(tree.bytes for tree in self.trees.values())

    @property
    def content(self) -> set[str]:
        """The digests of what is there once the bundle and those before it were imported."""
        return {*self.blobs, *self.trees, *self.left_out}

    def encoded(self) -> bytes:
        """The manifest as a bundle holds it. Raises `CacheError` if it is too large."""
        data = json.dumps({"format": FORMAT, **asdict(self)}, separators=(",", ":")).encode()
        if len(data) > MOST_BYTES:
            raise CacheError(f"{len(self.content)} files and folders are too many for one bundle")
        return data

    @classmethod
    def decoded(cls, data: bytes) -> "Manifest":
        """The manifest that a bundle holds. Raises `UnsafeArchive` unless it has the right form."""
        try:
            found = json.loads(data)
            if found["format"] != FORMAT:
                raise ValueError(f"its format is {found['format']!r}, not {FORMAT!r}")
            manifest = cls(
                about=found["about"],
                documents={name: Document(**one) for name, one in found["documents"].items()},
                blobs=found["blobs"],
                trees={digest: TreeSize(**one) for digest, one in found["trees"].items()},
                left_out=found["left_out"],
            )
            manifest._check()
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise UnsafeArchive(f"its manifest is wrong: {error!r}") from error
        return manifest

    def _check(self) -> None:
        if not isinstance(self.about, dict) or not isinstance(self.blobs, dict):
            raise ValueError("about and blobs are objects")
        if not isinstance(self.left_out, list):
            raise ValueError("left_out is a list")
        digests = [*self.content, *(one.sha256 for one in self.documents.values())]
        sizes = [*self.blobs.values(), *(one.bytes for one in self.documents.values())]
        for tree in self.trees.values():
            sizes += [tree.members, tree.bytes]
        for digest in digests:
            if not isinstance(digest, str) or not is_digest(digest):
                raise ValueError(f"{digest!r} is no SHA-256")
        for size in sizes:
            # `type`, because True is an int to isinstance.
            if type(size) is not int or size < 0:
                raise ValueError(f"{size!r} is no size")
        for name in self.documents:
            if not re.fullmatch("[a-z]{1,32}", name):
                raise ValueError(f"{name!r} is no name of a document")


@dataclass(frozen=True)
class Head:
    """The beginning of a bundle: its manifest, as it was written and read, and its signature."""

    data: bytes
    manifest: Manifest
    signature: bytes | None

    @property
    def id(self) -> str:
        """What names the bundle: the SHA-256 of its manifest, and so of all it holds."""
        return sha256(self.data).hexdigest()
