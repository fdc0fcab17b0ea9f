"""Folders by content: unpacked archives and what containers produced, read-only."""

import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from medperf_cache.blobs import BlobStore, Elsewhere, nowhere
from medperf_cache.digests import entries, is_digest, kept_digest, mark_used, place, stored
from medperf_cache.errors import CacheError, CorruptContent, NotCached, UnsafeArchive
from medperf_cache.names import UNPACKED, Names
from medperf_cache.scratch import remove_tree, scratch

if TYPE_CHECKING:  # Who finds everything unpacked does not pay for tarfile.
    from medperf_cache.archives import UnpackLimits


# How the name of a folder begins that is being deleted, and that of no content.
GONE = "."


def make_read_only(root: Path) -> None:
    """Let nobody write to a folder and what is in it; who may execute a file still may."""
    folders = [str(root)]
    for folder in folders:
        # What a container left may be closed to its owner.
        os.chmod(folder, stat.S_IRWXU)
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                elif entry.is_file(follow_symlinks=False):
                    executable = entry.stat(follow_symlinks=False).st_mode & stat.S_IXUSR
                    os.chmod(entry.path, 0o555 if executable else 0o444)
    for folder in folders:
        os.chmod(folder, 0o555)  # nosec B103 # nobody may write; who comes in is the root's to say


def make_writable(root: Path) -> None:
    """Give the owner of a folder all of it to write to again, as it was before `settle`."""
    os.chmod(root, stat.S_IRWXU)
    for _, entry in entries(root):
        if entry.is_dir(follow_symlinks=False):
            os.chmod(entry.path, stat.S_IRWXU)
        elif entry.is_file(follow_symlinks=False):
            mode = stat.S_IMODE(entry.stat(follow_symlinks=False).st_mode)
            os.chmod(entry.path, mode | stat.S_IRUSR | stat.S_IWUSR)


def _derived(tree: Path) -> str:
    """The digest of what an archive unpacked to, or why it is kept no more."""
    make_read_only(tree)
    try:
        return kept_digest(tree)
    except CacheError as error:
        return str(error)


@contextmanager
def _laid_out(
    archive: Path, area: Path, limits: "UnpackLimits | None" = None, name: str = ""
) -> Iterator[Path]:
    """What an archive unpacks to, in a folder in `area`, for the block."""
    from medperf_cache.archives import UnpackLimits, unpack

    with scratch(area) as folder:
        tree = folder / "tree"
        tree.mkdir()
        unpack(archive, tree, limits or UnpackLimits(), name)
        yield tree


def lend(path: Path) -> None:
    """Have copies of a kept file or folder come out so that their owner can write to them.

    Whoever copies what a container is given copies its modes too. To be called where a container
    comes to it through a mount that it cannot write to, or has a copy: the modes guard it no more.
    """
    status = path.stat()
    if status.st_mode & stat.S_IWUSR:
        return
    # On a medium that is read-only it stays as it is.
    with suppress(OSError):
        if stat.S_ISDIR(status.st_mode):
            for _, entry in entries(path):
                if not entry.is_symlink():
                    _grant(entry.path, entry.stat())
        # Last, for by this it is known that all of it was done.
        _grant(path, status)


def _grant(path: str | Path, status: os.stat_result) -> None:
    os.chmod(path, stat.S_IMODE(status.st_mode) | stat.S_IWUSR)


def discard(kept: Path, delete: Callable[[Path], None] = remove_tree) -> None:
    """Delete content that has its digest for a name: first out of sight, then for good.

    It gets another name where it is, of the same length: that takes no room.
    """
    gone = kept.with_name(f"{GONE}{kept.name[len(GONE) :]}")
    # One that was killed before it was done may have left it.
    delete(gone)
    with suppress(FileNotFoundError):
        os.rename(kept, gone)
    delete(gone)


class TreeStore:
    """Read-only folders named by their `tree_digest`.

    Any number of processes may add the same content at once: the first rename wins, the others
    find the folder there and drop their own. What is not here may lie `elsewhere`, as with blobs.
    """

    def __init__(
        self, root: Path, incoming: Path, unpacked: Names, elsewhere: Elsewhere = nowhere
    ) -> None:
        self._root, self._incoming, self._unpacked = root, incoming, unpacked
        self._elsewhere = elsewhere

    def __contains__(self, digest: str) -> bool:
        return self.find(digest) is not None

    def __iter__(self) -> Iterator[str]:
        return (path.name for path in stored(self._root))

    def find(self, digest: str) -> Path | None:
        """Where the folder is, here or elsewhere; None if it is not to be had."""
        if not is_digest(digest):
            return None
        path = place(self._root, digest)
        return path if path.is_dir() else self._elsewhere(digest)

    def path(self, digest: str) -> Path:
        """Where the folder is; marks it as used now. Raises `NotCached`."""
        path = place(self._root, digest)
        if mark_used(path):
            return path
        found = self._elsewhere(digest)
        if found is None:
            raise NotCached(f"folder {digest} is not in the cache")
        return found

    def unpacked(self, archive_digest: str) -> str | None:
        """The digest of the folder that an archive was unpacked to, if it is here."""
        digest = self._unpacked.get(UNPACKED + archive_digest)
        return digest if digest is not None and digest in self else None

    def unpack(
        self,
        archive: Path,
        archive_digest: str,
        limits: "UnpackLimits | None" = None,
        name: str = "",
    ) -> str:
        """Unpack a tar or zip archive, which people call `name`, once; returns the folder's digest.

        Raises `UnsafeArchive` and `CacheError` (see `archives.unpack`); then nothing is kept.
        """
        known = self.unpacked(archive_digest)
        if known is not None:
            return known
        with _laid_out(archive, self._incoming, limits, name) as tree:
            digest = self.settle(tree)
            # Where it lies elsewhere, what it was unpacked for is to know which folder it is.
            if digest not in self:
                self.publish(tree, digest)
        self._unpacked.put(UNPACKED + archive_digest, digest)
        return digest

    def adopt(self, folder: Path) -> str:
        """Move a folder of this file system in (out of a scratch folder); returns its digest.

        Raises `CacheError` as `settle` does.
        """
        return self.publish(folder, self.settle(folder))

    @staticmethod
    def settle(folder: Path) -> str:
        """Make a folder read-only, for `publish`; returns its digest.

        Raises `CacheError` if it is itself a link, or holds what `kept_digest` refuses.
        """
        if not stat.S_ISDIR(folder.lstat().st_mode):
            raise CacheError(f"{folder} is not a folder")
        make_read_only(folder)
        return kept_digest(folder)

    def publish(self, folder: Path, digest: str) -> str:
        """Move in a read-only folder whose digest is known to be this; returns it."""
        path = place(self._root, digest)
        # Renaming a folder needs that of everyone but root.
        os.chmod(folder, stat.S_IRWXU)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            os.rename(folder, path)
            os.chmod(path, 0o555)  # nosec B103 # as above
        except OSError:
            # Renaming onto a folder that is not empty fails: the content is here already.
            if not path.is_dir():
                raise
            remove_tree(folder)
        return digest

    def copy(self, folder: Path) -> str:
        """Store a copy of a folder from anywhere; returns its digest."""
        with scratch(self._incoming) as area:
            shutil.copytree(folder, area / "tree", symlinks=True)
            return self.adopt(area / "tree")

    def remove(self, digest: str) -> None:
        """Delete a folder: first out of sight, then for good."""
        discard(place(self._root, digest))

    def sweep(self) -> None:
        """Delete what a process that was killed in `remove` left."""
        for gone in self._root.glob(f"??/{GONE}*"):
            remove_tree(gone)

    def verify_unpacked(self, archives: BlobStore, area: Path) -> Iterator[CorruptContent]:
        """Unpack every archive that is here again; yields what was noted of it and is not so.

        The work is done in folders of `area`.
        """
        for name, noted in list(self._unpacked.items(UNPACKED)):
            archive = name.removeprefix(UNPACKED)
            if archive not in archives:
                continue
            try:
                with _laid_out(archives.path(archive), area) as tree:
                    derived = _derived(tree)
            except UnsafeArchive as error:
                derived = str(error)
            if derived != noted:
                yield CorruptContent(f"folder of archive {archive}", derived, noted, "name", name)

    def verify(self) -> Iterator[CorruptContent]:
        """Read every folder again; yields what is not what its name says, or cannot be read."""
        for path in stored(self._root):
            try:
                found = kept_digest(path)
            except (CacheError, OSError) as error:
                found = str(error)
            # Another process may have removed it meanwhile.
            if found != path.name and path.is_dir():
                yield CorruptContent(f"tree {path}", path.name, found, "tree")
