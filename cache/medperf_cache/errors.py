"""What the cache refuses."""


class CacheError(Exception):
    """The cache could not do what was asked; nothing half-done is visible."""


class NotCached(CacheError):
    """The content is not here."""


class CorruptContent(CacheError):
    """Content does not have the digest it should have.

    `expected` and `found` are SHA-256 digests, 64 hexadecimal digits each (`found` says why, where
    there is none because content cannot be read); `kind` is "blob" or "tree" for what is stored,
    "name" for a digest under a `name` that does not follow from content, else empty.
    """

    def __init__(
        self, what: str, expected: str, found: str, kind: str = "", name: str = ""
    ) -> None:
        super().__init__(f"{what}: expected sha256 {expected}, found {found}")
        self.expected, self.found, self.kind, self.name = expected, found, kind, name


class NotWritable(CacheError):
    """Nothing can be stored here: the disk is full, or may only be read."""


class UnsafeArchive(CacheError):
    """An archive is damaged, too large, or would write outside its folder."""


class InUse(CacheError):
    """Another process is working with the cache."""
