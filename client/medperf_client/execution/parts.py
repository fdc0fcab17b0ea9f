"""The cases of a step in parts: which cases each part has, and what the parts gave as one."""

import os
import shutil
from collections.abc import Sequence
from math import ceil
from pathlib import Path

from medperf_cache.digests import entries
from medperf_client.errors import InvalidContainer


def shares(names: Sequence[str], most: int) -> list[tuple[str, ...]]:
    """Names in order, in as few parts of at most `most` as there can be, as equal as they can be.

    The same names are always in the same parts: ten with a most of four are four, three and three.
    """
    ordered, count = sorted(names, key=os.fsencode), ceil(len(names) / most)
    sizes = [len(ordered) // count + (i < len(ordered) % count) for i in range(count)]
    ends = [sum(sizes[: i + 1]) for i in range(count)]
    return [tuple(ordered[end - size : end]) for end, size in zip(ends, sizes, strict=True)]


def join(folders: Sequence[Path], joined: Path, what: str) -> None:
    """Make a folder that has all that is in these; files are hard links where there can be some.

    Raises `InvalidContainer`, naming `what` wrote it, for what is in two of them and no folder in
    both: then what is right for all cases is nobody's to say.
    """
    joined.mkdir()
    for folder in folders:
        for path, entry in entries(folder):
            place = joined / path
            try:
                if entry.is_dir(follow_symlinks=False):
                    place.mkdir(exist_ok=True)
                elif entry.is_symlink():
                    place.symlink_to(os.readlink(entry.path))
                else:
                    _link(Path(entry.path), place)
            except (FileExistsError, NotADirectoryError) as error:
                raise InvalidContainer(
                    f"{what} wrote {path} for some cases, and again for others",
                    "Its outputs have to be apart for each case. Its owner has to correct that, or "
                    "to leave MEDPERF_CASES out; without executor.cases_per_job in the profile one "
                    "job does all cases.",
                ) from error


def _link(file: Path, place: Path) -> None:
    try:
        os.link(file, place)
    except FileExistsError:
        raise
    except OSError:
        # A file system without hard links, or one with too many to this file.
        with open(place, "xb") as made, open(file, "rb") as given:
            shutil.copyfileobj(given, made)
        shutil.copymode(file, place)
