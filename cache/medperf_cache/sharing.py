"""Let others read a cache, as a shared one of theirs: open its folders, and list its images."""

import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from medperf_cache.digests import stored
from medperf_cache.names import IMAGE, IMAGE_ID
from medperf_cache.shared import INDEX, KINDS, Index, SharedCache, Summary
from medperf_cache.storage import Storage
from medperf_cache.trees import lend

READABLE = stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH
ENTERABLE = stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH


@dataclass(frozen=True)
class Shared:
    """What others find in a cache now; `closed` is a folder above it that they cannot enter."""

    summary: Summary
    closed: Path | None


def share(storage: Storage) -> Shared:
    """Let everybody on this machine read what a cache holds by digest, and nothing else of it.

    What comes in later is theirs to read once this is done again. Processes may work with the cache
    meanwhile. Raises `OSError` if the folders are another user's, or nothing can be written.
    """
    # What it finds in caches of others is not its own to give.
    own = Storage(storage.root)
    with own.in_use():
        _write(own, _index(own))
        _open(own.root)
        for kind in KINDS:
            root = own.root / f"{kind}s"
            # Others know a cache by them.
            root.mkdir(exist_ok=True, mode=0o700)
            _open(root)
            for folder in root.iterdir():
                _open(folder)
            for path in stored(root):
                # Another process may be removing it.
                with suppress(FileNotFoundError):
                    # They cannot do it themselves before a container copies it.
                    lend(path)
    return Shared(SharedCache(own.root).summary(), _closed_above(own.root))


def _index(storage: Storage) -> Index:
    """The images of which a cache has every part, and by which digests it knows them."""
    recipes = {
        name.removeprefix(IMAGE): recipe
        for name, recipe in storage.names.items(IMAGE)
        if name.removeprefix(IMAGE) in storage.images
    }
    ids = {
        name.removeprefix(IMAGE_ID): image_id
        for name, image_id in storage.names.items(IMAGE_ID)
        if image_id in recipes
    }
    return Index(recipes, ids)


def _write(storage: Storage, index: Index) -> None:
    """Replace the list of images by one that everybody may read: who reads sees the old or this."""
    with storage.scratch() as folder, open(folder / INDEX, "w", encoding="utf-8") as file:
        file.write(index.text)
        file.flush()
        os.fsync(file.fileno())
        os.fchmod(file.fileno(), stat.S_IWUSR | READABLE)
        os.replace(folder / INDEX, storage.root / INDEX)


def _open(folder: Path) -> None:
    mode = stat.S_IMODE(folder.stat().st_mode)
    if mode | READABLE | ENTERABLE != mode:
        os.chmod(folder, mode | READABLE | ENTERABLE)


def _closed_above(folder: Path) -> Path | None:
    """The uppermost folder above one that not everybody may enter."""
    for above in reversed(folder.parents):
        if not above.stat().st_mode & stat.S_IXOTH:
            return above
    return None
