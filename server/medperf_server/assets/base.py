"""What a store of files does, wherever it keeps them."""

import secrets
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import BinaryIO

# What a request holds in memory of a file that comes in.
PIECE_BYTES = 8 << 20


class NotStored(Exception):
    """The store does not have what was asked for."""


class Unavailable(OSError):
    """What keeps the files cannot be reached, or refuses."""


class Store(ABC):
    """Files by their SHA-256, and the pieces of those that are on their way in.

    It knows nothing of members: rows in the database say which files and uploads there are. Any
    number of processes may use it at once, on several hosts where they share it. What a method
    stored lasts once it returns; a file is there whole or not at all. Every method raises `OSError`
    if there is no room, `Unavailable` if the store cannot be reached.
    """

    @abstractmethod
    def write_piece(self, upload: str, name: str, data: memoryview) -> None:
        """Store a piece of an upload, by a name that nobody used before.

        Raises `NotStored` if the upload is discarded meanwhile; not every store can tell.
        """

    @abstractmethod
    def assemble(self, upload: str, pieces: Iterable[str]) -> tuple[str, str]:
        """Join pieces to a new one of the upload: its name, and its SHA-256.

        Raises `NotStored` if a piece is gone.
        """

    @abstractmethod
    def publish(self, upload: str, piece: str, sha256: str) -> None:
        """Make a piece that is known to have this SHA-256 a file; it stays a piece, too.

        Raises `NotStored` if it is gone.
        """

    @abstractmethod
    def remove_piece(self, upload: str, name: str) -> None:
        """Delete a piece; no error if it is not there."""

    @abstractmethod
    def discard(self, upload: str) -> None:
        """Delete every piece of an upload; no error if there is none."""

    @abstractmethod
    def uploads(self) -> set[str]:
        """The uploads that have pieces here."""

    @abstractmethod
    def __contains__(self, sha256: str) -> bool:
        """Whether a file is here."""

    @abstractmethod
    def __iter__(self) -> Iterator[str]:
        """The SHA-256 of every file."""

    @abstractmethod
    def open(self, sha256: str) -> BinaryIO:
        """A file, to read and to seek in. Raises `NotStored`."""

    @abstractmethod
    def remove(self, sha256: str) -> None:
        """Delete a file; no error if it is not there."""

    def add(self, source: BinaryIO) -> str:
        """Store a file that comes from elsewhere, such as a backup; its SHA-256.

        No registry may serve meanwhile: it would take this for an upload that was given up.
        """
        upload, pieces = secrets.token_hex(16), list[str]()
        try:
            while data := source.read(PIECE_BYTES):
                pieces.append(secrets.token_hex(16))
                self.write_piece(upload, pieces[-1], memoryview(data))
            whole, sha256 = self.assemble(upload, pieces)
            self.publish(upload, whole, sha256)
            return sha256
        finally:
            self.discard(upload)
