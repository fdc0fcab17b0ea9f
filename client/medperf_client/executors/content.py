"""What steps of a queue read: files and folders by digest, copied once to where the nodes are."""

import os
import shutil
import stat
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from medperf_cache.blobs import BlobStore
from medperf_cache.digests import entries, mark_used, place, stored
from medperf_cache.scratch import remove_tree, scratch
from medperf_cache.trees import GONE, TreeStore, discard, lend
from medperf_client.containers.library import Input
from medperf_client.errors import MedPerfError, WrongHash

OTHERS = stat.S_IRWXG | stat.S_IRWXO
# What nobody used for so long may go where nothing names it.
UNUSED_SECONDS = 7 * 24 * 3600.0


class Content:
    """Copies below `root`, named by what they are; `incoming` is on the same file system.

    Any number of processes may add the same content at once: the first rename wins. Nobody but
    their owner may read the copies.
    """

    def __init__(self, root: Path, incoming: Path) -> None:
        self._root, self._incoming = root, incoming

    def place(self, given: Input) -> Path:
        """Where a copy of it lies, if there is one."""
        return place(self._root / ("trees" if given.is_folder else "blobs"), given.digest)

    def at_hand(self, given: Input) -> Path:
        """Where a copy of it lies, made if there is none; marked as used now.

        Raises `WrongHash` if it is not what its digest says any more.
        """
        kept = self.place(given)
        if not mark_used(kept):
            for folder in (self._root, kept.parent.parent, kept.parent):
                folder.mkdir(exist_ok=True, mode=0o700)
            with scratch(self._incoming) as area:
                try:
                    self._copy(given, area / "copy")
                except OSError as error:
                    raise _not_copied(given.path, self._root, error) from error
                with suppress(OSError):
                    # A folder that is there already is the same, by its name.
                    os.rename(area / "copy", kept)
                mark_used(kept)
        lend(kept)
        return kept

    def counts(self) -> dict[str, int]:
        """How many files (`blobs`) and folders (`trees`) there are copies of."""
        return {kind: len(stored(self._root / kind)) for kind in ("blobs", "trees")}

    def unused(self, seconds: float = UNUSED_SECONDS) -> list[Path]:
        """The copies that were not used for so long, those used last at the end."""
        before, found = time.time() - seconds, list[tuple[float, Path]]()
        for kind in ("blobs", "trees"):
            for copy in stored(self._root / kind):
                # Another process may have deleted it meanwhile.
                with suppress(FileNotFoundError):
                    found.append((copy.stat().st_mtime, copy))
        return [copy for used, copy in sorted(found) if used < before]

    def discard(self, copies: Iterable[Path]) -> None:
        """Delete copies: first out of sight, then for good. One process at a time may."""
        for copy in copies:
            discard(copy, _remove)

    def sweep(self) -> None:
        """Delete what a process that was killed in `discard` left; for one that may discard."""
        for gone in self._root.glob(f"*/??/{GONE}*"):
            _remove(gone)

    def _copy(self, given: Input, copy: Path) -> None:
        if given.is_folder:
            _lay_out(given, copy)
            found = TreeStore.settle(copy)
            paths = [copy, *(Path(one.path) for _, one in entries(copy) if not one.is_symlink())]
        else:
            shutil.copy(given.path, copy)
            found = BlobStore.settle(copy)
            paths = [copy]
        if found != given.digest:
            raise WrongHash(f"{given.path} is {found} by now, and was {given.digest}")
        for path in paths:
            # Renaming a folder needs that its owner may write to it.
            os.chmod(path, stat.S_IMODE(path.stat().st_mode) & ~OTHERS | stat.S_IWUSR)


def _lay_out(given: Input, copy: Path) -> None:
    """Copy a folder, or what of it is in the input."""
    if given.names is None:
        shutil.copytree(given.path, copy, symlinks=True)
        return
    copy.mkdir(mode=0o700)
    for name in given.names:
        entry = given.path / name
        if entry.is_dir() and not entry.is_symlink():
            shutil.copytree(entry, copy / name, symlinks=True)
        else:
            shutil.copy2(entry, copy / name, follow_symlinks=False)


def _remove(copy: Path) -> None:
    """Delete a file or folder, if it is there."""
    if copy.is_dir():
        remove_tree(copy)
    else:
        copy.unlink(missing_ok=True)


def require_own(folder: Path) -> None:
    """Raise `MedPerfError` unless a folder is this user's, and nobody else may enter it."""
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise MedPerfError(f"{folder} is not a folder of your own")
    if stat.S_IMODE(status.st_mode) & OTHERS:
        raise MedPerfError(
            f"others than you may enter {folder}, where data would lie",
            hint=f"If nobody else needs it: chmod 700 {folder}; else name a new folder in it.",
        )


def own_folder(folder: Path) -> Path:
    """A folder that is this user's alone, made if it is not there. Raises as `require_own` does."""
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        require_own(folder)
    return folder


def _not_copied(path: Path, root: Path, error: OSError) -> OSError:
    """Of all that kept a folder from being copied, the first."""
    several = isinstance(error, shutil.Error) and isinstance(error.args[0], list)
    said = error.args[0][0][2] if several else error.strerror or error
    return OSError(f"cannot copy {path} to {root}: {said}")
