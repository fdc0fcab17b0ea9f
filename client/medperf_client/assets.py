"""Bring files into the cache: by URL, verified while they stream, whole or not at all."""

from collections.abc import Callable, Iterator
from typing import Any

from medperf_cache import CorruptContent, Storage
from medperf_client.errors import Offline, UsageError, WrongHash

CHUNK_BYTES = 1 << 20

# Called with (what, bytes so far, bytes in all or None) while something long goes on.
Progress = Callable[[str, int, int | None], None]


def silent(what: str, done: int, total: int | None) -> None:
    """Progress for nobody."""


class Fetcher:
    """Gets files by HTTP(S) into a site's cache.

    With `offline` no socket is opened. `progress` is told of every chunk.
    """

    def __init__(
        self,
        storage: Storage,
        timeouts: tuple[float, float] = (2.0, 60.0),
        offline: bool = False,
        progress: Progress = silent,
    ) -> None:
        self._storage, self._timeouts = storage, timeouts
        self._offline, self._progress = offline, progress

    def fetch(self, url: str, expected: str | None = None) -> str:
        """The SHA-256 of the file at `url`, which is in the cache afterwards.

        With `expected`, a file that is here already is not asked for again. Raises `Offline` if
        it cannot be had, `WrongHash` naming both hashes, `UsageError` for other kinds of URL.
        """
        if expected and expected in self._storage.blobs:
            return expected
        if not url.startswith(("http://", "https://")):
            raise UsageError(f"{url!r} is not a URL", hint="It starts with http:// or https://")
        if self._offline:
            raise Offline(f"{url} is not in the cache, and this works offline, as asked")
        try:
            return self._storage.blobs.add(self._download(url), expected or None, url)
        except CorruptContent as error:
            raise WrongHash(
                str(error), hint="The file was changed, or its registered hash is wrong."
            ) from error

    def _download(self, url: str) -> Iterator[bytes]:
        # Imported late: what is in the cache does not pay for it.
        import requests
        import urllib3

        # The bytes as they are stored: a host must not compress or unpack a tarball on the way.
        headers = {"Accept-Encoding": "identity"}
        try:
            with requests.get(
                url, stream=True, timeout=self._timeouts, headers=headers
            ) as response:
                response.raise_for_status()
                total = _length(response.headers.get("Content-Length"))
                done = 0
                while chunk := response.raw.read(CHUNK_BYTES, decode_content=False):
                    done += len(chunk)
                    self._progress(url, done, total)
                    yield chunk
                if total is not None and done != total:
                    raise Offline(f"{url} ended after {done} of {total} bytes")
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            raise Offline(
                f"{url} cannot be fetched: {error}",
                hint="Nothing was kept. Check the URL, or try again once its host answers.",
            ) from error


def _length(header: Any) -> int | None:
    return int(header) if header is not None and header.isdecimal() else None
