"""Copies of what jobs read on a node's own disk: made once, used by all of a user's jobs there."""

import errno
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from medperf_cache.digests import entries, is_digest, mark_used
from medperf_cache.errors import InUse
from medperf_cache.locks import hold, taken
from medperf_cache.scratch import sweep
from medperf_client.containers.library import Input
from medperf_client.errors import MedPerfError
from medperf_client.execution.work import Work, perform
from medperf_client.executors.content import Content, own_folder
from medperf_client.files import write_atomically

# Of the node's disk, for what tasks write there, and others' jobs.
LEFT_FREE = 0.1


class NodeCopies:
    """Copies in `area`, on this node, of what lies in `content`, on the shared file system.

    Any number of jobs of one user may use them at once. One of them copies, and deletes, at a time;
    what a job uses it holds a lock on, with which nobody deletes it.
    """

    def __init__(self, content: Path, area: Path) -> None:
        self._content, self._area = content.resolve(), area
        self._copies = Content(area / "content", area / "incoming")

    def performed(self, work: Work) -> dict[str, Any]:
        """See `execution.work.perform`: the step reads copies. Raises `WrongHash`, too."""
        with self.lent(work) as near:
            return perform(near)

    @contextmanager
    def lent(self, work: Work) -> Iterator[Work]:
        """The work with copies in the place of what it reads, which are there during the block.

        What cannot be copied, for there is no room, it reads where it lies. Raises `WrongHash` for
        what is not what its digest says.
        """
        with ExitStack() as held:
            job = work.job
            near = {path: self._near(path, held) for path in work.reads}
            mounts = tuple(replace(one, path=near.get(one.path, one.path)) for one in job.mounts)
            archive = job.archive and near[job.archive]
            yield replace(work, job=replace(job, mounts=mounts, archive=archive))

    def sweep(self) -> None:
        """Delete what no job used for a while, and what jobs that were killed left half."""
        with suppress(InUse), self._alone(wait=False):
            sweep(self._area / "incoming")
            self._copies.sweep()
            for copy in self._copies.unused():
                self._discard(copy)

    def _near(self, path: Path, held: ExitStack) -> Path:
        """A copy that the stack holds, or the path itself if there is to be none."""
        if not path.is_relative_to(self._content) or not is_digest(path.name):
            return path
        try:
            return self._held(Input(path, path.name), held)
        except OSError as error:
            _say(f"{path} is read where it lies: {self._area}: {error.strerror or error}")
            return path

    def _held(self, given: Input, held: ExitStack) -> Path:
        copy = self._copies.place(given)
        if not _keep(copy, held):
            with self._alone():
                if not _is_whole(copy):
                    self._discard(copy)
                    if copy.exists():
                        # Another job reads what is left of it.
                        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
                    self._make_room(_extent(given.path)[1])
                    self._copies.at_hand(given)
                    write_atomically(_note(copy), str(_extent(copy)))
                if not _keep(copy, held):
                    raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        return copy

    def _make_room(self, size: int) -> None:
        """Delete what no job uses, what was used last at the end. Raises `OSError` without room."""
        disk = shutil.disk_usage(self._area)
        left = int(disk.total * LEFT_FREE)
        old = self._copies.unused(0) if size + left <= disk.total else []
        for copy in old:
            if shutil.disk_usage(self._area).free >= size + left:
                break
            self._discard(copy)
        if shutil.disk_usage(self._area).free < size + left:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _discard(self, copy: Path) -> None:
        """Delete a copy, unless a job uses it."""
        with suppress(FileNotFoundError):
            descriptor = os.open(copy, os.O_RDONLY)
            try:
                if taken(descriptor, wait=False):
                    _note(copy).unlink(missing_ok=True)
                    self._copies.discard([copy])
            finally:
                os.close(descriptor)

    def _alone(self, wait: bool = True) -> AbstractContextManager[None]:
        return hold(self._area / "lock", "another job copies", wait=wait)


def node_copies(content: Path, folder: str) -> NodeCopies | None:
    """Copies in a folder on this node, in whose name variables of the environment may stand.

    None, and a line that says why, where it is not to be had.
    """
    place = Path(os.path.expandvars(folder))
    try:
        if not place.is_absolute() or "$" in str(place):
            raise MedPerfError(f"{str(place)!r} is no absolute path")
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
        area = own_folder(place / f"medperf-copies-{os.getuid()}")
        found = NodeCopies(content, area)
        found.sweep()
    except (OSError, MedPerfError) as error:
        _say(f"nothing is copied to executor.node_folder, {folder}: {error}")
        return None
    return found


def _keep(copy: Path, held: ExitStack) -> bool:
    """Have the stack keep a whole copy from being deleted; false if there is none to keep."""
    with ExitStack() as opened, suppress(FileNotFoundError):
        descriptor = os.open(copy, os.O_RDONLY)
        opened.callback(os.close, descriptor)
        if (
            taken(descriptor, shared=True, wait=False)
            # It may have been deleted between the two, and even made anew.
            and os.path.samestat(os.fstat(descriptor), copy.stat())
            and _is_whole(copy)
            and mark_used(copy)
        ):
            held.push(opened.pop_all())
            return True
    return False


def _note(copy: Path) -> Path:
    """Where the extent of a copy is written down once it is there."""
    return copy.with_name(f"{copy.name}.extent")


def _is_whole(copy: Path) -> bool:
    """Whether all of a copy is there: who tidies up a node's disk may delete what is old of it."""
    with suppress(FileNotFoundError):
        return _note(copy).read_text() == str(_extent(copy))
    return False


def _extent(path: Path) -> tuple[int, int]:
    """How many files a file or folder is, and how many bytes."""
    if not path.is_dir():
        return 1, path.stat().st_size
    files = [one for _, one in entries(path) if one.is_file(follow_symlinks=False)]
    return len(files), sum(one.stat().st_size for one in files)


def _say(line: str) -> None:
    """A line in the job's own log."""
    print(f"medperf-step: {line}", file=sys.stderr, flush=True)
