"""The form of a backup: a tar of the database and the members' files, then a manifest of both.

The manifest comes last, so that each file is read once. It names the size and the SHA-256 of every
file before it; an archive that holds anything else, or has lost its end, is not a backup.
"""

import json
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from hashlib import sha256 as new_sha256
from pathlib import Path
from typing import Any, BinaryIO

FORMAT = 1
MANIFEST = "manifest.json"
DATABASE = "database"
FILES = "files/"
CHUNK_BYTES = 1 << 20
MOST_MANIFEST_BYTES = 256 << 20

# Is told of every so many bytes that were copied or checked.
Progress = Callable[[int], None]


class Damaged(Exception):
    """What was read is not what was written."""


@dataclass
class Manifest:
    """What a backup holds; `files` are pairs of size and SHA-256 by name."""

    engine: str
    revision: str
    created_at: str
    format: int = FORMAT
    files: dict[str, tuple[int, str]] = field(default_factory=dict)
    # Files that members gave up while the backup was made: their rows are in it, and nothing else.
    gone: list[str] = field(default_factory=list)
    # Files that the store has lost, or holds with other content.
    lost: list[str] = field(default_factory=list)

    @property
    def stored(self) -> list[str]:
        """The SHA-256 of each of the members' files in it."""
        return [name.removeprefix(FILES) for name in self.files if name.startswith(FILES)]


class Writer:
    """Writes a backup to a file that can be cut off again."""

    def __init__(self, file: BinaryIO, manifest: Manifest, progress: Progress) -> None:
        self._file, self._manifest, self._progress = file, manifest, progress

    def add(self, name: str, source: BinaryIO, size: int, sha256: str | None = None) -> None:
        """Append a file of so many bytes.

        Raises `Damaged`, and leaves nothing of it, if its size or its SHA-256 is another one.
        """
        start, copied, digest = self._file.tell(), 0, new_sha256()
        self._file.write(_header(name, size))
        while copied <= size and (chunk := source.read(CHUNK_BYTES)):
            self._file.write(chunk)
            digest.update(chunk)
            copied += len(chunk)
            self._progress(len(chunk))
        if copied != size or sha256 not in (None, digest.hexdigest()):
            self._file.seek(start)
            self._file.truncate()
            raise Damaged(name)
        self._file.write(bytes(-size % tarfile.BLOCKSIZE))
        self._manifest.files[name] = size, digest.hexdigest()

    def finish(self) -> None:
        """Append the manifest, and the end of the archive."""
        content = json.dumps(asdict(self._manifest)).encode()
        self._file.write(_header(MANIFEST, len(content)) + content + _end(len(content)))


def _end(size: int) -> bytes:
    """What comes after the last file, of so many bytes: up to a whole block, and two empty ones."""
    return bytes(-size % tarfile.BLOCKSIZE + 2 * tarfile.BLOCKSIZE)


def _header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o600
    return info.tobuf(tarfile.PAX_FORMAT)


class Reader:
    """A backup that was checked from its first byte to its last."""

    def __init__(self, tar: tarfile.TarFile, progress: Progress) -> None:
        """Check it. Raises `Damaged`."""
        self._tar = tar
        self._places: dict[str, tarfile.TarInfo] = {}
        found = {}
        for info in tar:
            if not info.isreg() or info.issparse() or info.name in self._places:
                raise Damaged(f"{info.name!r} is not what a backup holds")
            if MANIFEST in self._places:
                raise Damaged(f"{info.name!r} comes after its manifest")
            self._places[info.name] = info
            if info.name != MANIFEST:
                found[info.name] = (info.size, digest_of(self.open(info.name), progress))
        self.manifest = self._read_manifest()
        self._require_end()
        if found != self.manifest.files:
            wrong = found.keys() ^ self.manifest.files.keys() or [
                name for name in found if found[name] != self.manifest.files[name]
            ]
            raise Damaged(f"{min(wrong)!r} is not as its manifest says")

    def open(self, name: str) -> BinaryIO:
        """A file in it."""
        file = self._tar.extractfile(self._places[name])
        assert file is not None
        return file  # type: ignore[return-value]

    def copy(self, name: str, target: Path) -> None:
        """Copy a file out of it, and check it once more. Raises `Damaged`."""
        digest = new_sha256()
        with target.open("wb") as file:
            for chunk in _chunks(self.open(name)):
                digest.update(chunk)
                file.write(chunk)
        if digest.hexdigest() != self.manifest.files[name][1]:
            raise Damaged(f"{name!r} changed while it was read")

    def _require_end(self) -> None:
        """Nothing comes after the manifest but what ends an archive."""
        place, file = self._places[MANIFEST], self._tar.fileobj
        assert file is not None
        file.seek(place.offset_data + place.size)
        if file.read(3 * tarfile.BLOCKSIZE) != _end(place.size):
            raise Damaged("it does not end after its manifest")

    def _read_manifest(self) -> Manifest:
        place = self._places.get(MANIFEST)
        if place is None or place.size > MOST_MANIFEST_BYTES:
            raise Damaged("it has no manifest: it was cut off, or is no backup")
        try:
            manifest = Manifest(**json.loads(self.open(MANIFEST).read()))
            manifest.files = {name: _entry(name, *row) for name, row in manifest.files.items()}
            texts = [manifest.engine, manifest.revision, *manifest.gone, *manifest.lost]
            if not all(isinstance(text, str) for text in texts):
                raise TypeError("a text is none")
        except (ValueError, TypeError, AttributeError) as error:
            raise Damaged(f"its manifest cannot be read: {error}") from error
        if manifest.format != FORMAT:
            raise Damaged(f"its format is {manifest.format!r}: use a newer medperf-server")
        if DATABASE not in manifest.files:
            raise Damaged("it has no database")
        return manifest


def _entry(name: str, size: Any, sha256: Any) -> tuple[int, str]:
    """A row of the manifest. Raises `ValueError` for a file that no backup has."""
    if name != DATABASE and name != f"{FILES}{sha256}":
        raise ValueError(f"{name!r} has no place in a backup")
    return size, sha256


@contextmanager
def opened(path: Path, progress: Progress) -> Iterator[Reader]:
    """A backup, checked. Raises `Damaged`, and `OSError` if it cannot be read."""
    with path.open("rb") as file:
        try:
            # Compressed ones are refused: it could not be known beforehand how much they become.
            with tarfile.open(fileobj=file, mode="r:") as tar:
                yield Reader(tar, progress)
        except tarfile.TarError as error:
            raise Damaged(f"it is no tar archive, or was cut off: {error}") from error


def digest_of(file: BinaryIO, progress: Progress = lambda _: None) -> str:
    """SHA-256, hexadecimal, of what is left of a file."""
    digest = new_sha256()
    for chunk in _chunks(file):
        digest.update(chunk)
        progress(len(chunk))
    return digest.hexdigest()


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    while chunk := file.read(CHUNK_BYTES):
        yield chunk
