"""Private working folders on the cache's own file system, swept once their process is gone."""

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from medperf_cache.locks import taken

# How the names of folders begin that lie among others' temporary files.
TEMPORARY = "medperf-work-"


def remove_tree(path: Path) -> None:
    """Delete a folder, whatever its modes and however deep. No error if it is gone already."""
    folders = [str(path)]
    for folder in folders:
        with suppress(OSError):
            os.chmod(folder, stat.S_IRWXU)
        with suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                else:
                    with suppress(OSError):
                        os.unlink(entry.path)
    for folder in reversed(folders):
        with suppress(OSError):
            os.rmdir(folder)


def lock(folder: Path, wait: bool) -> int | None:
    """A descriptor that holds the folder's lock, or None if it is gone or held by another."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not taken(descriptor, wait=wait):
        os.close(descriptor)
        return None
    return descriptor


@contextmanager
def scratch(area: Path, prefix: str = "") -> Iterator[Path]:
    """A new empty folder in `area` (mode 0700), deleted on leaving.

    It is locked while this process lives: `sweep` in another process leaves it alone.
    """
    area.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder, descriptor = area / f"{prefix}{os.urandom(16).hex()}", None
    # All of it inside, since an interrupt may come at any line.
    try:
        while descriptor is None:
            folder.mkdir(mode=0o700, exist_ok=True)
            descriptor = lock(folder, wait=True)
            # A sweep may have come between making the folder and locking it.
            if descriptor is not None and not folder.exists():
                os.close(descriptor)
                descriptor = None
        yield folder
    finally:
        remove_tree(folder)
        if descriptor is not None:
            os.close(descriptor)


@contextmanager
def temporary() -> Iterator[Path]:
    """The same in the folder for temporary files (`TMPDIR`), for who may write nowhere else.

    Those that processes of this user left when they died are deleted first.
    """
    # Imported late: hardly anybody needs it.
    import tempfile

    area = Path(tempfile.gettempdir())
    # Others may put there what they like, under any name.
    own = [path for path in area.glob(f"{TEMPORARY}*") if path.lstat().st_uid == os.getuid()]
    _sweep(path for path in own if path.is_dir() and not path.is_symlink())
    with scratch(area, TEMPORARY) as folder:
        yield folder


def sweep(area: Path) -> int:
    """Delete the folders of processes that died; returns how many."""
    return _sweep(list(area.iterdir()) if area.is_dir() else ())


def _sweep(folders: Iterable[Path]) -> int:
    swept = 0
    for folder in folders:
        descriptor = lock(folder, wait=False)
        if descriptor is not None:
            remove_tree(folder)
            os.close(descriptor)
            swept += 1
    return swept
