"""A step as a folder: what is to be done there, and the record of what was."""

import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from medperf_cache import CacheError
from medperf_client.errors import (
    FAILED,
    OK,
    ContainerFailed,
    MedPerfError,
    Unsupported,
    UsageError,
    WrongHash,
)
from medperf_client.execution.used import Meter, Used
from medperf_client.execution.work import Work, perform
from medperf_client.files import read_versioned, versioned, write_atomically

FORMAT = 1
WORK, RECORD = "work.json", "record.json"
# What a step may raise that its caller tells apart from other failures.
KINDS = {kind.__name__: kind for kind in (ContainerFailed, Unsupported)}


def describe(work: Work, folder: Path) -> None:
    """Write what is to be done into its folder."""
    write_atomically(folder / WORK, work.text())


def recorded(folder: Path, key: str = "") -> dict[str, Any] | None:
    """The record of the step that was done there; None if nobody came to the end of it.

    Raises what the step did: `ContainerFailed`, `Unsupported`, or another `MedPerfError`; and
    `WrongHash` if it is of another step than the one remembered by `key`, where that is given.
    """
    if not (folder / RECORD).exists():
        return None
    found = read_versioned(FORMAT, folder / RECORD)
    if key and found.get("key") != key:
        raise WrongHash(f"{folder / RECORD} is of another step: it names {found.get('key')!r}")
    error = found.get("error")
    if error is not None:
        raise KINDS.get(error["kind"], MedPerfError)(error["text"], error["hint"])
    record: dict[str, Any] = found["record"]
    return record


def described(folder: Path) -> Work:
    """What is to be done in a folder. Raises `UsageError` if that is not to be read."""
    try:
        return Work.read((folder / WORK).read_bytes())
    except OSError as error:
        raise UsageError(f"{folder / WORK}: {error.strerror}") from error


def used(folder: Path) -> Used | None:
    """What the step that was done there took; None if nobody came to its end, or measured it.

    It is part of no record: what is remembered of a step is the same wherever it was done.
    """
    try:
        return Used.read(read_versioned(FORMAT, folder / RECORD).get("used"))
    except (OSError, ValueError):
        return None


def do(work: Work, folder: Path) -> int:
    """Do a step; the exit code. Its record, in its folder, says how it failed, too."""
    outcome = tried(work)
    keep(outcome, folder)
    return FAILED if "error" in outcome else OK


def tried(
    work: Work, by: Callable[[Work], dict[str, Any]] = perform, meter: Meter | None = None
) -> dict[str, Any]:
    """Do a step; what its file is to hold: a `record` or the `error`, and what the step took."""
    outcome = dict[str, Any](key=work.key)
    meter = meter or Meter(work.job.platform)
    try:
        for path in work.reads:
            if not path.exists():
                raise MedPerfError(
                    f"{path}, which this reads, is gone", "Run it again: it is copied anew."
                )
        outcome["record"] = by(work)
    except (MedPerfError, CacheError, OSError) as error:
        hint = getattr(error, "hint", "")
        outcome["error"] = {"kind": type(error).__name__, "text": str(error), "hint": hint}
        # That goes to a file where there may be no room, which is no reason to end.
        with suppress(OSError):
            print(error, hint, sep="\n", file=sys.stderr)
    outcome["used"] = meter.read().record()
    return outcome


def keep(outcome: Mapping[str, Any], folder: Path) -> None:
    """Write what `tried` gave into the folder of its step."""
    write_atomically(folder / RECORD, versioned(FORMAT, outcome))
