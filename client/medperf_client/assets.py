"""Bring files into the cache: by URL, verified while they stream, whole or not at all."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from medperf_cache import CorruptContent, Storage
from medperf_client.errors import Offline, Refused, UsageError, WrongHash
from medperf_client.network import reason, trouble
from medperf_client.registry import ONLINE_HINT

if TYPE_CHECKING:
    import requests

CHUNK_BYTES = 1 << 20
AGAIN_HINT = "Nothing was kept. Check the URL, or try again once its host answers."

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
        it cannot be had now, `Refused` if its host has none, `WrongHash` naming both hashes,
        `UsageError` for other kinds of URL.
        """
        if expected and expected in self._storage.blobs:
            return expected
        if not url.startswith(("http://", "https://")) or not url.isprintable():
            raise UsageError(f"{url!r} is not a URL", hint="It starts with http:// or https://")
        if self._offline:
            raise Offline(f"{url} is not in the cache, and this works offline", ONLINE_HINT)
        try:
            return self._storage.blobs.add(self._download(url), expected or None, url)
        except CorruptContent as error:
            raise WrongHash(
                str(error), hint="The file was changed, or its registered hash is wrong."
            ) from error

    def _download(self, url: str) -> Iterator[bytes]:
        # Imported late: what is in the cache does not pay for it.
        import requests

        # The bytes as they are stored: a host must not compress or unpack them on the way.
        headers = {"Accept-Encoding": "identity"}
        try:
            with requests.get(
                url, stream=True, timeout=self._timeouts, headers=headers
            ) as response:
                _check(response, url)
                # Of a host that compresses all the same: but what is called .gz already is gzip.
                decode = not urlsplit(url).path.endswith((".gz", ".tgz"))
                total = _length(response.headers.get("Content-Length"))
                while chunk := response.raw.read(CHUNK_BYTES, decode_content=decode):
                    self._progress(url, response.raw.tell(), total)
                    yield chunk
                done = response.raw.tell()
                if total is not None and done != total:
                    raise Offline(f"{url} ended after {done} of {total} bytes", AGAIN_HINT)
                if total is None:
                    self._progress(url, done, done)
        except trouble() as error:
            raise Offline(f"{url} cannot be fetched: {reason(error)}", AGAIN_HINT) from error


def _check(response: "requests.Response", url: str) -> None:
    """Raise unless the answer is the file: `Refused` for good, `Offline` for now."""
    status = response.status_code
    said = f"{url} cannot be fetched: its host answered {status} {response.reason}"
    if 400 <= status < 500 and status not in (408, 429):
        raise Refused(said, "Check the URL. Has its owner moved the file, or closed it?")
    if status != 200:
        raise Offline(said, AGAIN_HINT)


def _length(header: Any) -> int | None:
    return int(header) if header is not None and header.isdecimal() else None
