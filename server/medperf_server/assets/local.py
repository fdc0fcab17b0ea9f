"""Files in a folder of this machine, or one that several machines share."""

import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256 as new_sha256
from pathlib import Path
from typing import BinaryIO

from medperf_server.assets.base import NotStored, Store
from medperf_server.disk import ground, made, settle

CHUNK_BYTES = 1 << 20


class LocalStore(Store):
    """`files/ab/abcd…` below a folder, and `uploads/<upload>/<piece>` for what is on its way.

    Files appear by link, once the disk has them; folders are of mode 0700.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._files, self._uploads = root / "files", root / "uploads"

    @property
    def ground(self) -> Path:
        """The store's folder, or the one in which the first file that comes makes it."""
        return ground(self.root)

    def _place(self, sha256: str) -> Path:
        return self._files / sha256[:2] / sha256

    def write_piece(self, upload: str, name: str, data: memoryview) -> None:
        """See `Store`."""
        folder = made(self._uploads / upload)
        with _pieces_of(upload), _new(folder / name) as file:
            file.write(data)
            _settle(file, folder)

    def assemble(self, upload: str, pieces: Iterable[str]) -> tuple[str, str]:
        """See `Store`."""
        folder, name, digest = made(self._uploads / upload), secrets.token_hex(16), new_sha256()
        with _pieces_of(upload), _new(folder / name) as whole:
            for piece in pieces:
                with open(folder / piece, "rb", buffering=0) as file:
                    while chunk := file.read(CHUNK_BYTES):
                        digest.update(chunk)
                        whole.write(chunk)
            _settle(whole, folder)
        return name, digest.hexdigest()

    def publish(self, upload: str, piece: str, sha256: str) -> None:
        """See `Store`."""
        target = self._place(sha256)
        folder = made(target.parent)
        with _pieces_of(upload), suppress(FileExistsError):
            os.link(self._uploads / upload / piece, target)
        settle(folder)

    def remove_piece(self, upload: str, name: str) -> None:
        """See `Store`."""
        (self._uploads / upload / name).unlink(missing_ok=True)

    def discard(self, upload: str) -> None:
        """See `Store`."""
        shutil.rmtree(self._uploads / upload, ignore_errors=True)

    def uploads(self) -> set[str]:
        """See `Store`."""
        return set(os.listdir(self._uploads)) if self._uploads.is_dir() else set()

    def __contains__(self, sha256: str) -> bool:
        return self._place(sha256).is_file()

    def __iter__(self) -> Iterator[str]:
        return (path.name for path in self._files.glob("??/*"))

    def open(self, sha256: str) -> BinaryIO:
        """See `Store`."""
        try:
            return open(self._place(sha256), "rb")
        except FileNotFoundError:
            raise NotStored(f"{sha256} is not stored") from None

    def remove(self, sha256: str) -> None:
        """See `Store`."""
        with suppress(FileNotFoundError):
            self._place(sha256).unlink()
            settle(self._place(sha256).parent)


@contextmanager
def _pieces_of(upload: str) -> Iterator[None]:
    """What is missing in the block is a piece of the upload."""
    try:
        yield
    except FileNotFoundError:
        raise NotStored(f"pieces of upload {upload} are gone") from None


@contextmanager
def _new(path: Path) -> Iterator[BinaryIO]:
    """A new file to write in the block; of one that fails nothing stays to take room."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        try:
            yield file
        except BaseException:
            path.unlink(missing_ok=True)
            raise


def _settle(file: BinaryIO, folder: Path) -> None:
    """Have the disk take a file and its name."""
    file.flush()
    os.fsync(file.fileno())
    settle(folder)
