"""The cases of a step in parts: which cases each part has, and what the parts gave as one."""

import os
import shutil
import stat
from collections.abc import Sequence
from itertools import accumulate
from math import ceil
from pathlib import Path

from medperf_cache.digests import entries, leaves
from medperf_cache.fingerprints import Fingerprints, Progress
from medperf_client.containers.library import Input
from medperf_client.errors import InvalidContainer


class Cases:
    """Shares the entries of folders out, in parts of `most` at most; each is looked at once."""

    def __init__(self, most: int, fingerprints: Fingerprints, progress: Progress) -> None:
        self._most, self._fingerprints, self._progress = most, fingerprints, progress
        self._known: dict[tuple[Path, str], list[Input]] = {}

    def parts(self, whole: Input) -> list[Input]:
        """The parts of a folder; none if it cannot be shared out.

        That is one with fewer cases than two parts have, or with a link from one case to another.
        """
        key = (whole.path, whole.digest)
        if key not in self._known:
            self._known[key] = self._parted(whole)
        return self._known[key]

    def _parted(self, whole: Input) -> list[Input]:
        found = shares(os.listdir(whole.path), self._most)
        if len(found) < 2 or not stand_alone(whole.path):
            return []
        digests = self._fingerprints.parts(whole.path, found, self._progress)
        return [
            Input(whole.path, digest, names=names)
            for names, digest in zip(found, digests, strict=True)
        ]


def shares(names: Sequence[str], most: int) -> list[tuple[str, ...]]:
    """Names in order, in as few parts of at most `most` as there can be, as equal as they can be.

    The same names are always in the same parts: ten with a most of four are four, three and three.
    """
    ordered, count = sorted(names, key=os.fsencode), ceil(len(names) / most)
    sizes = [len(ordered) // count + (i < len(ordered) % count) for i in range(count)]
    ends = accumulate(sizes)
    return [tuple(ordered[end - size : end]) for end, size in zip(ends, sizes, strict=True)]


def stand_alone(folder: Path) -> bool:
    """Whether no link in an entry of a folder may lead out of that entry."""
    for path, entry in entries(folder):
        if entry.is_symlink():
            below = path.partition("/")[2]
            if not below or leaves(below, os.readlink(entry.path)):
                return False
    return True


def join(folders: Sequence[Path], joined: Path, what: str) -> None:
    """Make a folder that has all that is in these; files are hard links where there can be some.

    Raises `InvalidContainer`, naming `what` wrote it, for what is in two of them and no folder in
    both: then what is right for all cases is nobody's to say. So nothing is ever written through
    a link.
    """
    joined.mkdir()
    for folder in folders:
        for path, entry in entries(folder):
            try:
                _put(Path(entry.path), joined / path)
            except (FileExistsError, NotADirectoryError) as error:
                raise InvalidContainer(
                    f"{what} wrote {path} for some cases, and again for others",
                    "Its outputs have to be apart for each case. Its owner has to correct that, or "
                    "to leave MEDPERF_CASES out; without executor.cases_per_job in the profile one "
                    "job does all cases.",
                ) from error


def _put(found: Path, place: Path) -> None:
    """Have the same at another place. Raises `FileExistsError`, except for a folder in a folder."""
    if found.is_symlink():
        place.symlink_to(os.readlink(found))
    elif found.is_dir():
        try:
            place.mkdir()
        except FileExistsError:
            if not stat.S_ISDIR(place.lstat().st_mode):
                raise
    else:
        try:
            os.link(found, place)
        except FileExistsError:
            raise
        except OSError:
            # A file system without hard links, or one with too many to this file.
            with open(place, "xb") as made, open(found, "rb") as given:
                shutil.copyfileobj(given, made)
            shutil.copymode(found, place)
