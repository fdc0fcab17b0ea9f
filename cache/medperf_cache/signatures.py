"""What a file is, by its first bytes: to choose how to read it, and to say what came instead."""

from dataclasses import dataclass
from pathlib import Path

# As far as a page may begin with a comment, and a tar archive's mark is from its start.
HEAD_BYTES = 1024
TAR_MARK = slice(257, 262)


@dataclass(frozen=True)
class Signature:
    """How files of one kind begin, and what people call them."""

    beginnings: tuple[bytes, ...]
    words: str

    def begins(self, file: Path) -> bool:
        """Whether a file begins so."""
        return head(file).startswith(self.beginnings)


PAGE, XML = "a web page", "an XML document"
# What a repository serves where nobody fetched the file itself.
POINTER = "a Git LFS pointer, not the file itself"
ZIP = Signature((b"PK\x03\x04", b"PK\x05\x06"), "a zip archive")
ZSTD = Signature((b"\x28\xb5\x2f\xfd",), "compressed with zstd")
OTHERS = (
    Signature((b"\x1f\x8b",), "compressed with gzip"),
    Signature((b"BZh",), "compressed with bzip2"),
    Signature((b"\xfd7zXZ\x00",), "compressed with xz"),
    Signature((b"7z\xbc\xaf\x27\x1c",), "a 7z archive"),
    Signature((b"Rar!\x1a\x07",), "a RAR archive"),
    Signature((b"%PDF-",), "a PDF document"),
    Signature((b"\x89HDF\r\n",), "an HDF5 file"),
    Signature((b"version https://git-lfs.github.com/",), POINTER),
)
PAGES = (b"<!doctype html", b"<html", b"<head", b"<body")


def head(file: Path) -> bytes:
    """The first bytes of a file."""
    with open(file, "rb") as content:
        return content.read(HEAD_BYTES)


def described(file: Path) -> str:
    """What a file is, in words such as "a zip archive"; empty where its first bytes do not say."""
    start = head(file)
    for kind in (ZIP, ZSTD, *OTHERS):
        if start.startswith(kind.beginnings):
            return kind.words
    if not start:
        return "an empty file"
    if start[TAR_MARK] == b"ustar":
        return "a tar archive"
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if any(page in text for page in PAGES) and text.startswith(b"<"):
        return PAGE
    return XML if text.startswith(b"<") else ""
