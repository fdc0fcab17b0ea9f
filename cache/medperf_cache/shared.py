"""Caches that somebody else keeps, to read from: an administrator's, a cluster's, one on a disc.

Content is used where it lies. Nothing of it is believed: a file or folder is read, and compared
with its digest, before it is used the first time, and again once its size, times or inode are
others. No database of theirs is opened, for SQLite is not safe on a network file system. What is
not found by its digest, the copies of images, is told by a file of theirs, and proven here.
"""

import errno
import json
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from medperf_cache.digests import is_digest, place, stored
from medperf_cache.errors import CacheError, CorruptContent
from medperf_cache.fingerprints import Fingerprints, Progress, silent

BLOB, TREE = "blob", "tree"
KINDS = (BLOB, TREE)
# Beside blobs and trees: which recipe makes up which image.
INDEX, INDEX_FORMAT, MOST_INDEX_BYTES = "images.json", 1, 64 << 20
# How long a file system may take to say whether it is there: one that is gone may never answer.
PATIENCE_SECONDS = 10.0
# Of a large folder on a network file system it takes its time to see that nothing in it changed.
FRESH_SECONDS = 10.0
# What concerns one thing in a cache; all else that can go wrong with a file concerns the cache.
OF_ONE = (errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


@dataclass(frozen=True)
class Index:
    """What a cache says of its copies of images: recipes by ID, IDs by other digests."""

    recipes: Mapping[str, str] = field(default_factory=dict)
    ids: Mapping[str, str] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The same as the file has it."""
        return json.dumps(
            {"format": INDEX_FORMAT, "images": {**self.recipes}, "digests": {**self.ids}}
        )

    @classmethod
    def read(cls, file: Path) -> "Index":
        """What a file says. Raises `OSError`, and `CacheError` for one of another form."""
        with open(file, "rb") as content:
            text = content.read(MOST_INDEX_BYTES + 1)
        try:
            if len(text) > MOST_INDEX_BYTES:
                raise ValueError("it is too large")
            found = json.loads(text)
            if found["format"] != INDEX_FORMAT:
                raise ValueError("it was written by a newer medperf")
            index = cls(found["images"], found["digests"])
            digests = [*index.recipes.items(), *index.ids.items()]
            if not all(isinstance(one, str) and is_digest(one) for pair in digests for one in pair):
                raise ValueError("it names what is no digest")
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise CacheError(f"{file} is no list of images: {error}") from error
        return index


@dataclass(frozen=True)
class Summary:
    """What a shared cache has, as counts; in `trouble` what keeps some or all of it from use."""

    folder: Path
    trouble: str
    blobs: int = 0
    trees: int = 0
    images: int = 0


class SharedCache:
    """One cache of somebody else's: the folder that holds their `blobs` and `trees`."""

    def __init__(self, root: Path) -> None:
        self.root = Path(os.path.abspath(root))

    @cached_property
    def trouble(self) -> str:
        """Why nothing can be had from it; empty if something can. Looked at once."""
        return self._look[0]

    @property
    def real_root(self) -> Path:
        """The folder itself, where `root` is a way to it."""
        return self._look[1]

    @cached_property
    def _look(self) -> tuple[str, Path]:
        silence = f"its file system did not answer within {PATIENCE_SECONDS:.0f} seconds"
        seen = [(silence, self.root)]

        def look() -> None:
            seen.append((_looked_at(self.root), self.root.resolve()))

        # Who waits for a server that is gone can be left behind, and not be called back.
        looking = threading.Thread(target=look, daemon=True)
        looking.start()
        looking.join(PATIENCE_SECONDS)
        return seen[-1]

    def path(self, kind: str, digest: str) -> Path | None:
        """Where something is said to lie; None if it is not there.

        Raises `CacheError` for what is neither a file nor a folder but in its place, and `OSError`.
        """
        path = place(self.root / f"{kind}s", digest)
        try:
            mode = path.lstat().st_mode
        except FileNotFoundError:
            return None
        if not (stat.S_ISREG(mode) if kind == BLOB else stat.S_ISDIR(mode)):
            raise CacheError(f"{path} is no {'file' if kind == BLOB else 'folder'}")
        return path

    def stored(self, kind: str) -> list[Path]:
        """What is said to lie there of a kind."""
        return stored(self.root / f"{kind}s")

    @cached_property
    def index(self) -> Index:
        """What it says of images; nothing where it says none. Raises `OSError`, `CacheError`."""
        try:
            return Index.read(self.root / INDEX)
        except FileNotFoundError:
            return Index()

    def summary(self) -> Summary:
        """What it has."""
        if self.trouble:
            return Summary(self.root, self.trouble)
        try:
            blobs, trees = (len(self.stored(kind)) for kind in KINDS)
            return Summary(self.root, self._closed(), blobs, trees, len(self.index.recipes))
        except (CacheError, OSError) as error:
            return Summary(self.root, _words(error))

    def _closed(self) -> str:
        """What to say of folders that this user may not read, if there are any."""
        folders = (folder for kind in KINDS for folder in (self.root / f"{kind}s").glob("??"))
        closed = [one for one in folders if not os.access(one, os.R_OK | os.X_OK)]
        if not closed:
            return ""
        return (
            f"{len(closed)} of its folders are closed to you, such as {closed[0]}: who keeps it "
            "opens them with medperf storage share"
        )


class SharedCaches:
    """The shared caches of a site, in the order in which they are asked.

    One that is missing, damaged or lies is passed over, and `tell` hears of it, once. What was
    verified is remembered in `fingerprints`. Threads may share it.
    """

    def __init__(
        self,
        roots: Sequence[Path],
        fingerprints: Callable[[], Fingerprints],
        tell: Callable[[str], None] = lambda line: None,
        progress: Progress = silent,
    ) -> None:
        self._caches = [SharedCache(root) for root in roots]
        self._fingerprints, self._tell, self._progress = fingerprints, tell, progress
        self._told: set[object] = set()
        self._found: dict[tuple[str, str], tuple[Path, float]] = {}
        self._one_at_a_time = threading.Lock()

    @property
    def places(self) -> list[Path]:
        """Where they lie, whether they are there now or not; with links followed, too."""
        return [place for cache in self._caches for place in {cache.root, cache.real_root}]

    def find(self, kind: str, digest: str) -> Path | None:
        """Where a blob or a tree lies, verified, in the first cache that has it; None if none does.

        Whether it changed is looked at again after some seconds. While one thread reads, the others
        wait.
        """
        if not is_digest(digest):
            return None
        with self._one_at_a_time:
            known = self._found.get((kind, digest))
            if known and time.monotonic() < known[1] + FRESH_SECONDS and os.path.exists(known[0]):
                return known[0]
            found = self._looked_for(kind, digest)
            if found is not None:
                self._found[kind, digest] = (found, time.monotonic())
            return found

    def _looked_for(self, kind: str, digest: str) -> Path | None:
        for cache in self._usable():
            with self._passed_over(cache):
                path = cache.path(kind, digest)
                if path is not None and self._is_sound(cache, kind, path):
                    return path
        return None

    def copies(self, digest: str) -> Iterator[tuple[str, str]]:
        """What they say of the image of a digest: its ID and the recipe. It is yet to be proven."""
        for cache in self._usable():
            index = Index()
            with self._passed_over(cache):
                index = cache.index
            image_id = index.ids.get(digest, digest)
            if image_id in index.recipes:
                yield image_id, index.recipes[image_id]

    def summaries(self) -> list[Summary]:
        """What each of them has."""
        return [cache.summary() for cache in self._caches]

    def verify(self) -> Iterator[tuple[Path, CorruptContent]]:
        """Read all that they have again; yields what is not as it should be, and in which cache.

        What is found to be damaged is not used from then on.
        """
        for cache in self._usable():
            paths: list[tuple[str, Path]] = []
            with self._passed_over(cache):
                paths = [(kind, path) for kind in KINDS for path in cache.stored(kind)]
            for kind, path in paths:
                found = self._read_again(cache, kind, path.name)
                if found != path.name:
                    self._found.pop((kind, path.name), None)
                    yield cache.root, CorruptContent(f"{kind} {path}", path.name, found, kind)

    def _read_again(self, cache: SharedCache, kind: str, digest: str) -> str:
        """The digest of what lies where that digest says, or why there is none."""
        try:
            path = cache.path(kind, digest)
            # Another process may have removed it.
            if path is None:
                return digest
            return self._fingerprints().digest(path, self._progress, again=True)
        except (CacheError, OSError) as error:
            return _words(error)

    def _usable(self) -> Iterator[SharedCache]:
        for cache in self._caches:
            if not cache.trouble:
                yield cache
            else:
                self._say(cache.root, f"shared cache {cache.root} is passed over: {cache.trouble}")

    def _is_sound(self, cache: SharedCache, kind: str, path: Path) -> bool:
        found = self._fingerprints().digest(path, self._progress)
        if found != path.name:
            self._say(
                path,
                f"shared cache {cache.root}: {kind} {path.name} is passed over, for it is damaged: "
                f"its sha256 is {found}. Tell who keeps that cache.",
            )
        return found == path.name

    @contextmanager
    def _passed_over(self, cache: SharedCache) -> Iterator[None]:
        """What goes wrong with a cache in the block is told, and does not go on."""
        try:
            yield
        except CacheError as error:
            self._say(str(error), f"shared cache {cache.root}: passed over, {error}")
        except OSError as error:
            if error.errno in OF_ONE:
                said = f"shared cache {cache.root}: some of it is passed over, {_words(error)}"
                self._say((cache.root, error.errno), said)
            else:
                # It went away meanwhile, and would take its time to say so again.
                cache.trouble = _words(error)
                said = f"shared cache {cache.root} is passed over: {cache.trouble}"
                self._say(cache.root, said)

    def _say(self, what: object, line: str) -> None:
        if what not in self._told:
            self._told.add(what)
            self._tell(line)


def _looked_at(root: Path) -> str:
    """Why nothing can be had from a folder as a cache; empty if something can."""
    try:
        os.stat(root)
        for kind in KINDS:
            try:
                if stat.S_ISDIR(os.stat(root / f"{kind}s").st_mode):
                    return ""
            except FileNotFoundError:
                continue
    except OSError as error:
        return _words(error)
    return "it has neither blobs nor trees. Is it mounted, and a cache itself?"


def _words(error: CacheError | OSError) -> str:
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror or error}"
    return str(error)
