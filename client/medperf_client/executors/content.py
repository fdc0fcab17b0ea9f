"""What steps of a queue read: files and folders by digest, copied once to where the nodes are."""

import os
import shutil
import stat
from contextlib import suppress
from pathlib import Path

from medperf_cache.blobs import BlobStore
from medperf_cache.digests import entries, place
from medperf_cache.scratch import scratch
from medperf_cache.trees import TreeStore, lend
from medperf_client.containers.library import Input
from medperf_client.errors import WrongHash

OTHERS = stat.S_IRWXG | stat.S_IRWXO


class Content:
    """Copies below `root`, named by what they are; `incoming` is on the same file system.

    Any number of processes may add the same content at once: the first rename wins. Nobody but
    their owner may read the copies.
    """

    def __init__(self, root: Path, incoming: Path) -> None:
        self._root, self._incoming = root, incoming

    def at_hand(self, given: Input) -> Path:
        """Where a copy of it lies, made if there is none.

        Raises `WrongHash` if it is not what its digest says any more.
        """
        kind = "trees" if given.is_folder else "blobs"
        kept = place(self._root / kind, given.digest)
        if not kept.exists():
            for folder in (self._root, self._root / kind, kept.parent):
                folder.mkdir(exist_ok=True, mode=0o700)
            with scratch(self._incoming) as area:
                self._copy(given, area / "copy")
                with suppress(OSError):
                    # A folder that is there already is the same, by its name.
                    os.rename(area / "copy", kept)
        lend(kept)
        return kept

    def _copy(self, given: Input, copy: Path) -> None:
        if given.is_folder:
            shutil.copytree(given.path, copy, symlinks=True)
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
