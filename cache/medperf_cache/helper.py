"""A process that hashes small files: threads that do would spend their time waiting for each other.

Run as a script it is that process. It needs nothing but the standard library, and ends with whoever
started it.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from hashlib import sha256

CHUNK_BYTES = 1 << 16


class Helper:
    """Hashes files for one thread at a time. Raises `OSError` if it cannot be started."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    def digests(self, paths: Sequence[str]) -> list[str] | None:
        """SHA-256 of each file; None if one cannot be read, or this process has ended."""
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(paths).encode() + b"\n")
            self._process.stdin.flush()
            found: list[str] | None = json.loads(self._process.stdout.readline() or b"null")
        except (OSError, ValueError):
            return None
        return found

    def close(self) -> None:
        """Have it end."""
        # What it did not take is not to be written any more.
        self._process.kill()
        with suppress(OSError):
            self._process.communicate()


def digest(path: str) -> str:
    """SHA-256 of a small file."""
    hashed = sha256()
    file = os.open(path, os.O_RDONLY)
    try:
        while chunk := os.read(file, CHUNK_BYTES):
            hashed.update(chunk)
    finally:
        os.close(file)
    return hashed.hexdigest()


def main() -> None:
    """Answer each line, a list of paths, with one of digests."""
    for line in sys.stdin.buffer:
        try:
            answer = json.dumps([digest(path) for path in json.loads(line)])
        except OSError:
            answer = "null"
        print(answer, flush=True)


if __name__ == "__main__":
    main()
