"""Small files written whole or not at all."""

import errno
import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from medperf_client.errors import MedPerfError, UsageError

WRITE_HINT = "Make room there, or set MEDPERF_HOME to a folder that you can write to."
PLACE_HINT = "Something else is in its place: move it away, or set MEDPERF_HOME to another folder."
# EFBIG is how a file system, or a limit on files, says that there is no room.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG)
IN_THE_WAY = (errno.EEXIST, errno.ENOTDIR)


def hint_for(error: OSError) -> str:
    """What helps against an error of the disk, where anything is known to."""
    if error.errno in NO_ROOM:
        return WRITE_HINT
    return PLACE_HINT if error.errno in IN_THE_WAY else ""


def is_absent(path: Path) -> bool:
    """Whether nothing is there. A link that leads nowhere, there or on the way, is something.

    What it leads to may come back with a share, and is no reason to go on as if there were none.
    Raises `OSError` where it cannot be told.
    """
    for one in (path, *path.parents):
        try:
            one.lstat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        return one != path and (not one.is_symlink() or one.exists())
    return True


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
        raise MedPerfError(
            f"cannot write {file}: {error.strerror}", hint=hint_for(error)
        ) from error


def read_text(file: Path, what: str, hint: str = "") -> str:
    """What a member's own file says; `what` is what it is to be. Raises `UsageError` if it is no
    text in UTF-8, or cannot be read."""
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}", hint) from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{file} is no {what}: it is not text in UTF-8", hint) from error


def versioned(form: int, fields: Mapping[str, Any]) -> str:
    """Fields as JSON with the version of their form, for `read_versioned`."""
    # Imported late: who only asks what helps against an error does not pay for it.
    import json

    return json.dumps({"format": form, **fields}, indent=1)


def read_versioned(form: int, file: Path) -> dict[str, Any]:
    """The fields that `versioned` wrote. Raises `OSError`, and `ValueError` for anything else."""
    import json

    fields = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(fields, dict):
        raise ValueError("it is no record")
    if fields.pop("format", None) != form:
        raise ValueError("it was written by a newer medperf")
    return fields
