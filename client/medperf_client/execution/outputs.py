"""What a task left in its outputs, looked at before anything reads it."""

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from medperf_cache.digests import beyond, entries, leaves
from medperf_client.containers.job import Limits
from medperf_client.containers.spec import Volume
from medperf_client.errors import ContainerFailed


def check_outputs(paths: Iterable[Path], limits: Limits, what: str) -> None:
    """Raise `ContainerFailed` if what `what` wrote is more than its limits, or cannot be read.

    Sizes are those that a reader meets: a file of nothing but holes takes its time to hash too.
    """
    total = 0
    try:
        for count, (path, size) in enumerate(_sizes(paths), 1):
            if too_much := beyond(path):
                raise ContainerFailed(f"{what} wrote what no cache takes: {too_much}")
            total += size
            if total > limits.output_bytes:
                raise _too_much(f"{what} wrote more than {limits.output_bytes} bytes", "bytes")
            if count > limits.output_files:
                raise _too_much(f"{what} made more than {limits.output_files} files", "files")
    except OSError as error:
        raise ContainerFailed(f"what {what} wrote cannot be read: {error.strerror}") from error


def _too_much(said: str, unit: str) -> ContainerFailed:
    return ContainerFailed(said, hint=f"If it has to, raise the profile's output_{unit}.")


def _sizes(paths: Iterable[Path]) -> Iterator[tuple[str, int]]:
    """The size of each path, and of all that is below it, as it is met; no link is followed.

    With it goes its place in the output that it belongs to, which of the output itself is empty.
    """
    folders = []
    for path in paths:
        status = path.lstat()
        yield "", status.st_size
        if stat.S_ISDIR(status.st_mode):
            folders.append((str(path), ""))
    for folder, place in folders:
        # What a container left may be closed to its owner.
        os.chmod(folder, stat.S_IRWXU)
        with os.scandir(folder) as found:
            for entry in found:
                yield place + entry.name, entry.stat(follow_symlinks=False).st_size
                if entry.is_dir(follow_symlinks=False):
                    folders.append((entry.path, f"{place}{entry.name}/"))


def check_kind(volume: Volume, path: Path, what: str) -> None:
    """Raise `ContainerFailed` unless an output is what its volume says, and leads nowhere else.

    People read the path that the container knows.
    """
    place = volume.mount_path
    mode = path.lstat().st_mode
    if not (stat.S_ISDIR(mode) if volume.kind == "directory" else stat.S_ISREG(mode)):
        raise ContainerFailed(f"what {what} left at {place} is no {volume.kind}")
    for name, entry in entries(path) if volume.kind == "directory" else ():
        if entry.is_symlink():
            target = os.readlink(entry.path)
            if leaves(name, target):
                raise ContainerFailed(
                    f"{what} left a link at {place}/{name} to {target}, which may lead out of "
                    f"{place}",
                    hint="It has to put the file itself there.",
                )
        elif not entry.is_dir() and not entry.is_file():
            raise ContainerFailed(f"{what} left {place}/{name}, no file, no folder and no link")
