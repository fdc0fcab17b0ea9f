"""What every container of this benchmark shares: its volumes, parameters and command line.

It stands in `shared/` once, and `package.py` lays it beside each container's `main.py`, because an
image is built from that container's folder alone.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

PARAMETERS = "/mlcommons/volumes/parameters/parameters_file.yaml"


class Refused(Exception):
    """Input that cannot be used. The message names the place and what was expected there."""


def volume(mount_path: str) -> Path:
    """Return where the volume of `mount_path` stands.

    In a container that is `mount_path` itself; a plain process finds the same tree under the
    folder named in the environment variable MEDPERF_VOLUMES.
    """
    return Path(os.environ.get("MEDPERF_VOLUMES", "/")) / mount_path.lstrip("/")


def between(kind: type, low: float, high: float) -> Callable[[str], Any]:
    """Return a reader of numbers of `kind` (int or float) from `low` to `high`, both included."""

    def read(text: str) -> Any:
        expected = f"expected {kind.__name__} from {low} to {high}"
        try:
            value = kind(text)
        except ValueError:
            raise ValueError(expected) from None
        if not low <= value <= high:
            raise ValueError(expected)
        return value

    return read


def read_parameters(readers: Mapping[str, Callable[[str], Any]]) -> dict[str, Any]:
    """Return the parameters file, a flat YAML file of `key: value` lines, each value read.

    `readers` names every parameter and turns its text into a value, or raises ValueError saying
    what was expected. Raises Refused for a wrong value, and for an unknown, repeated or missing
    key.
    """
    path = volume(PARAMETERS)
    values: dict[str, Any] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        text = "" if line.lstrip().startswith("#") else line.partition(" #")[0].strip()
        if text in ("", "---"):
            continue
        key, _, value = (part.strip().strip("'\"") for part in text.partition(":"))
        where = f"{path.name}, line {number}, {key}"
        if key not in readers:
            raise Refused(f"{where}: unknown; expected one of {', '.join(sorted(readers))}")
        if key in values:
            raise Refused(f"{where}: given twice")
        try:
            values[key] = readers[key](value)
        except ValueError as error:
            raise Refused(f"{where}: is {value!r}; {error}") from None
    missing = sorted(set(readers) - set(values))
    if missing:
        raise Refused(f"{path.name}: lacks {', '.join(missing)}")
    return values


def run(tasks: Mapping[str, Callable[[], None]]) -> None:
    """Run the task named on the command line. What it refuses goes to stderr, with exit code 1."""
    if len(sys.argv) != 2 or sys.argv[1] not in tasks:
        sys.exit(f"usage: python3 main.py {'|'.join(tasks)}")
    try:
        tasks[sys.argv[1]]()
    except Refused as error:
        sys.exit(str(error))
