"""`medperf-step FOLDER`: do the step that a folder describes, and leave its record there.

It opens no cache, no queue and no connection to a registry, and knows no token: what it needs is
in `work.json` and in the files that this names.
"""

import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

from medperf_cache import CacheError
from medperf_client.errors import (
    FAILED,
    OK,
    ContainerFailed,
    MedPerfError,
    Unsupported,
    UsageError,
)
from medperf_client.execution.work import Work, perform
from medperf_client.files import read_versioned, versioned, write_atomically

FORMAT = 1
WORK, RECORD = "work.json", "record.json"
# What a step may raise that its caller tells apart from other failures.
KINDS = {kind.__name__: kind for kind in (ContainerFailed, Unsupported)}
USAGE = "usage: medperf-step [--with-parent] FOLDER"


def describe(work: Work, folder: Path) -> None:
    """Write what is to be done into its folder."""
    write_atomically(folder / WORK, work.text())


def recorded(folder: Path) -> dict[str, Any] | None:
    """The record of the step that was done there; None if nobody came to the end of it.

    Raises what the step did: `ContainerFailed`, `Unsupported`, or another `MedPerfError`.
    """
    if not (folder / RECORD).exists():
        return None
    found = read_versioned(FORMAT, folder / RECORD)
    error = found.get("error")
    if error is not None:
        raise KINDS.get(error["kind"], MedPerfError)(error["text"], error["hint"])
    record: dict[str, Any] = found["record"]
    return record


def do(folder: Path) -> int:
    """Do the step that a folder describes; the exit code. Its record says how it failed, too."""
    try:
        work = Work.read((folder / WORK).read_bytes())
    except OSError as error:
        raise UsageError(f"{folder / WORK}: {error.strerror}", USAGE) from error
    code, outcome = OK, dict[str, Any]()
    try:
        outcome["record"] = perform(work)
    except (MedPerfError, CacheError, OSError) as error:
        hint = getattr(error, "hint", "")
        outcome["error"] = {"kind": type(error).__name__, "text": str(error), "hint": hint}
        code = FAILED
        print(error, hint, sep="\n", file=sys.stderr)
    write_atomically(folder / RECORD, versioned(FORMAT, outcome))
    return code


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _end_with_parent() -> None:
    """Interrupt this process once the other end of its stdin is closed, or dead."""

    def wait() -> None:
        while os.read(sys.stdin.fileno(), 1):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


def main(words: list[str] | None = None) -> int:
    """The command; its exit code."""
    words = sys.argv[1:] if words is None else words
    # Who stops it, a scheduler or a person, wants its container to end with it.
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        if words[:1] == ["--with-parent"]:
            words = words[1:]
            _end_with_parent()
        if len(words) != 1 or words[0].startswith("-"):
            raise UsageError(USAGE)
        return do(Path(words[0]))
    except MedPerfError as error:
        print(error, error.hint, sep="\n", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 128 + signal.SIGTERM


if __name__ == "__main__":
    sys.exit(main())
