"""What the platforms share about volumes: where outputs are while a task runs, and what it left."""

import os
import posixpath
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from medperf_cache.digests import leaves
from medperf_cache.scratch import remove_tree
from medperf_client.containers.job import Job, Mount


@contextmanager
def workplace(job: Job) -> Iterator[Path]:
    """A folder of one run, on the disk that `job.scratch` is on; deleted with all that is in it."""
    folder = Path(tempfile.mkdtemp(prefix=f"medperf-{job.platform}-", dir=job.scratch))
    try:
        yield folder
    finally:
        remove_tree(folder)


@dataclass(frozen=True)
class FileFolder:
    """The folder at `mount_path`, in which a task finds the output `files`.

    A file that is mounted by itself cannot be replaced: whoever writes beside it, and renames that
    into its place, needs the folder of both. While the task runs each file has two names, one here
    and its own, so that nothing that was written is lost with the client.
    """

    path: Path
    mount_path: str
    files: tuple[Mount, ...]

    @classmethod
    def all_of(cls, job: Job) -> list["FileFolder"]:
        """Those of a job: one for each folder that no volume holds, and that holds output files.

        Outer ones come first.
        """
        found: dict[str, list[Mount]] = {}
        for mount in job.mounts:
            folder = posixpath.dirname(mount.mount_path)
            in_volume = any(f"{folder}/".startswith(f"{one.mount_path}/") for one in job.mounts)
            if not mount.read_only and mount.path.is_file() and folder != "/" and not in_volume:
                found.setdefault(folder, []).append(mount)
        # No volume's name has such an end.
        return [
            cls(files[0].path.with_name(f"{files[0].path.name}~"), folder, tuple(files))
            for folder, files in sorted(found.items())
        ]

    def place(self, file: Mount) -> Path:
        """Where one of its files is, while the task runs."""
        return self.path / posixpath.basename(file.mount_path)

    def lay_out(self) -> None:
        """Make it, with what a client that was killed left in it."""
        if self.path.exists():
            self.take()
        self.path.mkdir(parents=True)
        for file in self.files:
            os.link(file.path, self.place(file))

    def take(self, root: str = "") -> None:
        """Have each file be what is in its place, and delete the folder.

        `root` is where the task found mount paths, if that was not the root.
        """
        # Where it is no mount, the task may have deleted it, or have put a link in its place.
        if not self.path.is_dir() or self.path.resolve() != self.path:
            for file in self.files:
                _empty(file.path)
            return
        # The task may have closed it to its owner.
        self.path.chmod(stat.S_IRWXU)
        for file in self.files:
            take(file.path, self.place(file), root + file.mount_path)
        remove_tree(self.path)


@contextmanager
def laid_out(folders: Iterable[FileFolder], root: str = "") -> Iterator[None]:
    """Have these folders for the block; then each of their files is what was left there.

    For `root` see `FileFolder.take`.
    """
    with ExitStack() as stack:
        for folder in folders:
            folder.lay_out()
            stack.callback(folder.take, root)
        yield


def take(output: Path, found: Path, seen: str) -> None:
    """Have an output be what a task left at its mount path, which is `found` here.

    `seen` is that path as the task knew it. What the task deleted is empty.
    """
    found = _meant(found, seen)
    if found.is_symlink() and os.readlink(found) == str(output):
        return
    if os.path.lexists(found):
        if not (os.path.lexists(output) and os.path.samestat(found.lstat(), output.lstat())):
            _remove(output)
            shutil.move(found, output)
    else:
        _empty(output)


def _empty(output: Path) -> None:
    is_folder = output.is_dir()
    _remove(output)
    if is_folder:
        output.mkdir()
    else:
        output.touch()


def _meant(found: Path, seen: str) -> Path:
    """The file beside it that a link in an output's place stands for, if it is such a link."""
    if not found.is_symlink():
        return found
    folder = posixpath.dirname(seen)
    target = posixpath.normpath(posixpath.join(folder, os.readlink(found)))
    beside = found.with_name(posixpath.basename(target) or found.name)
    is_file = posixpath.dirname(target) == folder and not beside.is_symlink() and beside.is_file()
    return beside if is_file else found


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        remove_tree(path)
    else:
        path.unlink(missing_ok=True)


def keep_links(output: Path, seen: str) -> None:
    """Make relative the links in an output folder that name what is in it by its mount path.

    `seen` is that path as the task knew it. Links that lead elsewhere stay for others to refuse.
    """
    folders = [output] if output.is_dir() and not output.is_symlink() else []
    for folder in folders:
        # What cannot be looked at is refused later, too.
        with suppress(OSError):
            os.chmod(folder, stat.S_IRWXU)
            for entry in list(os.scandir(folder)):
                if entry.is_dir(follow_symlinks=False):
                    folders.append(Path(entry.path))
                elif entry.is_symlink():
                    _keep_link(output, Path(entry.path), seen)


def _keep_link(output: Path, link: Path, seen: str) -> None:
    path, target = str(link.relative_to(output)), os.readlink(link)
    folder = posixpath.dirname(path)
    inside = _inside(seen, posixpath.join(seen, folder), target)
    if inside is not None and leaves(path, target):
        link.unlink()
        link.symlink_to(posixpath.relpath(f"/{inside}", f"/{folder}"))


def _inside(seen: str, folder: str, target: str) -> str | None:
    """What a link in `folder` to `target` names below `seen`; None for what is, or may be, outside.

    As for `leaves`, what goes down and then up again may be.
    """
    steps = [step for step in target.split("/") if step not in ("", ".")]
    ups = 0 if posixpath.isabs(target) else len(list(takewhile(lambda step: step == "..", steps)))
    if ".." in steps[ups:]:
        return None
    whole = "/" + posixpath.normpath(posixpath.join(folder, target)).lstrip("/")
    return whole.removeprefix(seen)[1:] if f"{whole}/".startswith(f"{seen}/") else None
