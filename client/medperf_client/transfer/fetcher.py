"""Bring files into the cache: by URL, verified while they stream, whole or not at all."""

from collections.abc import Callable, Mapping, Sequence
from threading import Lock

from medperf_cache import Storage
from medperf_cache.partials import Partial, Partials
from medperf_client.errors import ONLINE_HINT, MedPerfError, Offline
from medperf_client.transfer.bounds import Bounds
from medperf_client.transfer.network import parts
from medperf_client.transfer.own_files import OwnFiles

TRIES = 5

# Called with (what, bytes so far, bytes in all or None) while something long goes on.
Progress = Callable[[str, int, int | None], None]


def silent(what: str, done: int, total: int | None) -> None:
    """Progress for nobody."""


class Fetcher:
    """Gets files by HTTP(S) into a site's cache.

    With `offline` no socket is opened. `progress` is told of every chunk, by one thread at a time.
    `mirrors` are the profile's. `first_wait_seconds` is how long a host that answers in vain is
    left alone at first; every further time takes twice as long. `own` are the registry's files.
    Of a host that never answered this object asks once. `bounds` are those of every file.
    """

    def __init__(
        self,
        storage: Storage,
        timeouts: tuple[float, float] = (2.0, 60.0),
        offline: bool = False,
        progress: Progress = silent,
        mirrors: Mapping[str, Sequence[str]] | None = None,
        first_wait_seconds: float = 0.5,
        own: OwnFiles | None = None,
        bounds: Bounds | None = None,
    ) -> None:
        self._storage, self._timeouts = storage, timeouts
        self._offline, self._progress = offline, progress
        self._mirrors, self._first_wait_seconds = mirrors or {}, first_wait_seconds
        self._own, self._bounds = own, bounds or Bounds()
        self._partials = Partials(storage.root, storage.blobs)
        self._one_reports = Lock()
        self._silent: dict[str, str] = {}

    def fetch(self, url: str, expected: str | None = None) -> str:
        """The SHA-256 of the file at `url`, which is in the cache afterwards.

        With `expected`, a file that is here already is not asked for again. What arrives of a
        file is kept, and the next call goes on from there. While another process gets the same
        URL this one waits. Raises `Offline` if it cannot be had now, `Refused` if its host has
        none, `WrongHash` naming both hashes, `UsageError` for other kinds of URL, `OSError` if
        the disk is full; if there are mirrors, what the file's own host did.
        """
        if expected and expected in self._storage.blobs:
            return expected
        parts(url)
        if self._offline:
            raise Offline(f"{url} is not in the cache, and this works offline", ONLINE_HINT)
        with self._partials.hold(url) as partial:
            # Whoever was waited for may have brought it.
            if expected and expected in self._storage.blobs:
                return expected
            self._complete(partial, url, expected)
            digest = partial.publish()
        self._storage.names.put(url, digest)
        return digest

    def remembered(self, url: str) -> str | None:
        """The SHA-256 of what `url` held when it was last fetched, if that is still here."""
        digest = self._storage.names.get(url)
        return digest if digest is not None and digest in self._storage.blobs else None

    def _complete(self, partial: Partial, url: str, expected: str | None) -> None:
        """From the mirrors in turn, and at last from the URL itself."""
        # Imported late: of what is here nothing is asked.
        from medperf_client.transfer.downloads import Downloader

        def report(done: int, total: int | None) -> None:
            with self._one_reports:
                self._progress(url, done, total)

        def downloader(tries: int, first_wait_seconds: float) -> Downloader:
            return Downloader(
                self._timeouts,
                tries,
                first_wait_seconds,
                report,
                self._token_for,
                self._silent,
                self._bounds,
            )

        missed = []
        for mirror in self._mirrors_of(url):
            # Who has another host to ask does not wait for this one.
            try:
                return downloader(1, 0).complete(partial, mirror, expected)
            except MedPerfError as error:
                missed.append(str(error))
        try:
            downloader(TRIES, self._first_wait_seconds).complete(partial, url, expected)
        except MedPerfError as error:
            error.hint = " ".join([error.hint, *(f"Before it: {one}." for one in missed)])
            raise

    def _mirrors_of(self, url: str) -> list[str]:
        own = self._own.counterpart(url) if self._own else None
        return [
            mirror + url[len(prefix) :]
            for prefix, mirrors in self._mirrors.items()
            if url.startswith(prefix)
            for mirror in mirrors
        ] + [one for one in (own,) if one and one != url]

    def _token_for(self, url: str) -> str | None:
        return self._own.token_for(url) if self._own else None
