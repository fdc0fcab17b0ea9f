"""Send files to the registry by the tus protocol: in pieces, from where it was cut."""

import os
import re
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from medperf_cache import Storage
from medperf_client.errors import Offline, Refused, TryLater
from medperf_client.ledger.records import Upload
from medperf_client.registry.client import Registry, answer
from medperf_client.registry.wire import answered
from medperf_client.transfer.backoff import pause
from medperf_client.transfer.fetcher import Progress, silent

# What a connection that breaks costs at most: some servers take a request whole or not at all.
PIECE_BYTES = 8 << 20
BLOCK_BYTES = 1 << 16
TRIES = 4
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 1.0, 30.0
# With the last piece the registry reads the whole file again, at this speed at least.
CHECKED_BYTES_PER_SECOND = 20e6
TUS = {"Tus-Resumable": "1.0.0"}
PIECE_TYPE = "application/offset+octet-stream"


class Uploader:
    """Has the registry store files of the cache.

    `progress` is told of every block. `rest` waits for a number of seconds; it is `time.sleep` but
    for who has their own clock.
    """

    def __init__(
        self,
        storage: Storage,
        registry: Registry,
        progress: Progress = silent,
        rest: Callable[[float], None] = time.sleep,
    ) -> None:
        self._storage, self._registry = storage, registry
        self._progress, self._rest = progress, rest

    def upload(self, digest: str) -> None:
        """Have the registry store the file of this SHA-256, for this member.

        What it has of it already is not sent again, whoever began to. Raises `Offline` if that has
        to wait, what has arrived is kept then; `Refused` if the registry says no, stores no files,
        or the file is gone from the cache.
        """
        if digest not in self._storage.blobs:
            self._require_stored(digest)
            return
        path = self._storage.blobs.path(digest)
        furthest, failures = 0, 0
        while True:
            try:
                begun = self._begin(digest, path.stat().st_size)
                if begun is not None:
                    if begun["offset_bytes"] > furthest:
                        furthest, failures = begun["offset_bytes"], 0
                    self._send(path, digest, begun["upload"], begun["offset_bytes"])
                return
            except TryLater as error:
                failures += 1
                if failures >= TRIES or (error.seconds or 0) > LONGEST_WAIT_SECONDS:
                    raise
                self._rest(pause(failures, FIRST_WAIT_SECONDS, error.seconds))
                self._registry.hear()

    def _begin(self, digest: str, size: int) -> dict[str, Any] | None:
        """The upload to go on with; None if the registry has the file."""
        announced = f"sha256 {b64encode(digest.encode()).decode()}"
        headers = {**TUS, "Upload-Length": str(size), "Upload-Metadata": announced}
        response = self._registry.upload("POST", "/assets/", headers, upload=Upload(digest, size))
        if response.status_code in (404, 405, 501):
            raise Refused(
                "this registry stores no files: host them where members can fetch them, "
                "and give their URLs"
            )
        body = answer(response)
        if response.status_code == 200:
            return None
        begun = answered("upload", body)
        if not re.fullmatch("[0-9A-Za-z_-]+", begun["upload"]):
            raise Offline(f"what answers is no registry: it began upload {begun['upload']!r}")
        return begun

    def _send(self, path: Path, digest: str, upload: str, offset: int) -> None:
        """The rest of a file; where nothing is left, nothing, which has the registry check it."""
        size = path.stat().st_size
        with open(path, "rb") as file:
            file.seek(offset)
            while True:
                piece = _Piece(file, min(PIECE_BYTES, size - offset), self._report)
                is_last = offset + len(piece) == size
                headers = {**TUS, "Upload-Offset": str(offset), "Content-Type": PIECE_TYPE}
                response = self._registry.upload(
                    "PATCH",
                    f"/assets/uploads/{upload}/",
                    headers,
                    piece or None,
                    Upload(digest, size, offset),
                    size / CHECKED_BYTES_PER_SECOND if is_last else 0.0,
                )
                if response.status_code in (404, 409):
                    # It took more, or less, than it could say, or another process of this member
                    # sends the same: to begin again tells how it stands.
                    raise TryLater("the registry has another part of the file than it said")
                if response.status_code != 204:
                    answer(response)
                    raise Offline(f"what answers is no registry: {response.status_code} to a piece")
                offset += len(piece)
                if is_last:
                    return

    def _report(self, done: int, size: int) -> None:
        # The end is told by the command.
        if done < size:
            self._progress("uploading", done, size)

    def _require_stored(self, digest: str) -> None:
        response = self._registry.upload("HEAD", f"/assets/{digest}", {})
        if response.status_code == 404:
            raise Refused(f"the file with sha256 {digest} is gone from the cache: submit it again")
        if response.status_code != 200:
            answer(response)


class _Piece:
    """Some of the next bytes of a file, as `requests` streams them.

    They are read before, so that what is noted of them is what goes.
    """

    def __init__(self, file: BinaryIO, length: int, report: Callable[[int, int], None]) -> None:
        self._before, self._report = file.tell(), report
        self._size = os.fstat(file.fileno()).st_size
        self.data = file.read(length)
        self._stream = BytesIO(self.data)

    def __len__(self) -> int:
        return len(self.data)

    def __iter__(self) -> Iterator[bytes]:
        while block := self.read(BLOCK_BYTES):
            yield block

    def read(self, size: int) -> bytes:
        """Up to `size` bytes of it."""
        block = self._stream.read(size)
        self._report(self._before + self._stream.tell(), self._size)
        return block
