"""Small files written whole or not at all."""

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from medperf_client.errors import MedPerfError

WRITE_HINT = "Make room there, or set MEDPERF_HOME to a folder that you can write to."


def write_atomically(file: Path, text: str, mode: int = 0o600) -> None:
    """Replace a file's content by rename, so that a reader sees the old text or the new.

    Raises `MedPerfError` naming the file, e.g. when the disk is full; the old file stays.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as temporary:
                os.fchmod(descriptor, mode)
                temporary.write(text)
                temporary.flush()
                os.fsync(descriptor)
            os.replace(name, file)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(name)
            raise
    except OSError as error:
        raise MedPerfError(f"cannot write {file}: {error.strerror}", hint=WRITE_HINT) from error
