"""Zstandard (RFC 8878), of the standard library or its backport; one frame a file."""

import sys
from typing import Any, BinaryIO

from medperf_cache.digests import CHUNK_BYTES
from medperf_cache.errors import UnsafeArchive

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

LEVEL = 3
THREADS = 2
# What reading takes in memory, whatever a stream asks for: 8 MiB. Our level needs 2 MiB.
WINDOW_LOG = 23


class Compressed:
    """A file that compresses what is written to it into `target`, and is closed with it."""

    def __init__(self, target: Any) -> None:
        names = zstd.CompressionParameter
        options: dict[int, int] = {
            names.compression_level: LEVEL,
            names.nb_workers: THREADS,
            names.checksum_flag: 1,
        }
        self._target, self._compressor = target, zstd.ZstdCompressor(options=options)

    def write(self, data: bytes) -> int:
        """Take all of `data`."""
        if ready := self._compressor.compress(data):
            self._target.write(ready)
        return len(data)

    def tell(self) -> int:
        """Zero: asked for once, by tarfile, before anything is written."""
        return 0

    def close(self) -> None:
        """End the frame, and close the target."""
        self._target.write(self._compressor.flush(zstd.ZstdCompressor.FLUSH_FRAME))
        self._target.close()


class Decompressed:
    """Reads what `Compressed` wrote: one frame, whole, and nothing after it."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        options: dict[int, int] = {zstd.DecompressionParameter.window_log_max: WINDOW_LOG}
        self._decompressor = zstd.ZstdDecompressor(options=options)

    def read(self, size: int) -> bytes:
        """Up to `size` bytes, none at the end of the frame.

        Raises `UnsafeArchive` if the frame is damaged or cut off, or something follows it.
        """
        while not self._decompressor.eof:
            data = b""
            if self._decompressor.needs_input:
                data = self._source.read(CHUNK_BYTES)
                if not data:
                    raise UnsafeArchive("it is cut off")
            try:
                found: bytes = self._decompressor.decompress(data, size)
            except zstd.ZstdError as error:
                raise UnsafeArchive(str(error)) from error
            if found:
                return found
        if self._decompressor.unused_data or self._source.read(1):
            raise UnsafeArchive("something follows its end")
        return b""
