"""One file from one host: asked for from where it was cut, until all of it is here."""

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from medperf_cache.partials import Origin, Partial
from medperf_client.deadlines import Pace
from medperf_client.errors import Offline, Refused, TryLater, WrongHash
from medperf_client.transfer.backoff import pause
from medperf_client.transfer.network import asked_to_wait, no_auth, parts, reason, trouble

if TYPE_CHECKING:
    import requests

    from medperf_client.transfer.sessions import Session

# What a reset connection or a killed process loses at most of what had arrived.
CHUNK_BYTES = 1 << 16
# A connection that brings less is no progress: else a host could be asked for every byte.
LEAST_PROGRESS_BYTES = 1 << 16
LONGEST_WAIT_SECONDS = 60.0
# Over how long a host's speed is looked at; longer where it may be silent for longer.
PACE_SECONDS = 60.0
AGAIN_HINT = "Check the URL, or try again once its host answers; what has arrived is kept."
PAGE_HINT = "What came is a web page: does this network ask for a login in a browser first?"
CHANGED_HINT = "The file was changed, or its registered hash is wrong."
CODED_HINT = "Ask whoever hosts it to send the file as it is."
# As a header has one: what is longer is no size of anything, and more than `int` reads at will.
NUMBER = "[0-9]{1,19}"


@dataclass(frozen=True)
class Bounds:
    """The most bytes that a file may have, decoded, and how many a second its host must send."""

    most_bytes: int = 1 << 38
    least_speed: int = 1000

    def check(self, source: str, size: int) -> None:
        """Raise `Refused` for a file that is, or will be, too large."""
        if size > self.most_bytes:
            raise Refused(
                f"{source} is larger than the {self.most_bytes} bytes that a file may have",
                "If it has to be, raise the profile's download_bytes.",
            )


@dataclass(frozen=True)
class Downloader:
    """Gets files by HTTP(S), in parts where their hosts allow it.

    `timeouts` are for a connection and for silence, in seconds. A host may answer `tries` times
    in vain, `first_wait_seconds` and then twice as long apart. `progress` gets the bytes so far
    and those in all. `token_for` gives the bearer token that a URL takes, if any. `silent` says by
    host why it never answered, nothing if it did: nobody waits for it twice. `bounds` are those of
    every file.
    """

    timeouts: tuple[float, float]
    tries: int
    first_wait_seconds: float
    progress: Callable[[int, int | None], None]
    token_for: Callable[[str], str | None]
    silent: dict[str, str]
    bounds: Bounds

    def complete(self, partial: Partial, source: str, expected: str | None) -> None:
        """Bring what is missing of a file; with `expected`, its SHA-256, from any host it began.

        Raises `Offline` or `TryLater` if it cannot be had now, `Refused` if the host has none or
        it is too large, `WrongHash` naming both hashes, `OSError` if the disk is full.
        """
        if not expected:
            partial.shorten(partial.synced)
        started = furthest = partial.size
        failures, clean = 0, False
        while True:
            try:
                self._continue(partial, source, expected)
                if not expected or partial.digest() == expected:
                    return
                if partial.fresh or clean:
                    raise _rejected(partial, source, expected)
                # Parts of two versions, or what a power cut left: nobody's fault yet.
                partial.forget()
                started, furthest, clean = 0, 0, True
            except Offline as error:
                if partial.size >= furthest + LEAST_PROGRESS_BYTES:
                    furthest, failures = partial.size, 0
                    continue
                failures += 1
                again = isinstance(error, TryLater) or furthest > started
                asked = error.seconds if isinstance(error, TryLater) else None
                if not again or failures >= self.tries or (asked or 0) > LONGEST_WAIT_SECONDS:
                    raise
                time.sleep(pause(failures, self.first_wait_seconds, asked))

    def _continue(self, partial: Partial, source: str, expected: str | None) -> None:
        """One answer of the host, appended as far as it gets."""
        with self._answer(partial, source, bool(expected)) as (response, session):
            decode = _is_coded(response, source)
            length = _length(response.headers.get("Content-Length"))
            total = partial.size + length if length is not None else None
            kind = response.headers.get("Content-Type", "")
            if response.status_code == 206 and partial.origin:
                total = partial.origin.total
                partial.go_on(Origin(source, _validator(response), total, partial.origin.kind))
            else:
                _refuse_page(partial, source, kind)
                total = length
                partial.begin(Origin(source, _validator(response), None if decode else total, kind))
            self.progress(partial.size, total)
            self._check_size(partial, source, total or 0)
            for chunk in self._chunks(response, session, source, decode):
                partial.append(chunk)
                self._check_size(partial, source, partial.size)
                self.progress(response.raw.tell() if decode else partial.size, total)
            done = response.raw.tell() if decode else partial.size
            if total is None:
                self.progress(done, done)
            elif done != total:
                raise TryLater(f"{source} ended after {done} of {total} bytes", AGAIN_HINT)

    def _check_size(self, partial: Partial, source: str, size: int) -> None:
        try:
            self.bounds.check(source, size)
        except Refused:
            # It would be in the way of what is smaller.
            partial.forget()
            raise

    def _chunks(
        self, response: "requests.Response", session: "Session", source: str, decode: bool
    ) -> Iterator[bytes]:
        """The body as it comes. Raises `TryLater` if it ends too early, `Offline` if it drips."""
        seconds = max(PACE_SECONDS, self.timeouts[1])
        pace = Pace(seconds, seconds * self.bounds.least_speed)
        why = ""
        with pace.kept(session.cut):
            try:
                while chunk := pace.wait_for(
                    lambda: response.raw.read1(CHUNK_BYTES, decode_content=decode)
                ):
                    yield chunk
            except trouble() as error:
                why = reason(error)
        if pace.missed.is_set():
            least = f"{self.bounds.least_speed} bytes a second"
            why = f"its host sends less than {least}, the profile's download_speed"
            self.silent[parts(response.url).netloc] = why
            raise Offline(f"{source} cannot be fetched: {why}", AGAIN_HINT)
        if why:
            raise TryLater(f"{source} cannot be fetched: {why}", AGAIN_HINT)

    @contextmanager
    def _answer(
        self, partial: Partial, source: str, verified: bool
    ) -> Iterator[tuple["requests.Response", "Session"]]:
        """The host's answer: the file from where it was cut, or from its start."""
        if partial.origin and partial.origin.total:
            # Nothing can be asked for after the last byte, not even whether it still is the last.
            partial.shorten(partial.origin.total - 1)
        wanted = _continuation(partial, source, verified)
        with self._get(source, wanted) as (response, session):
            useless = response.status_code == 416 or (
                response.status_code == 206 and not _continues(response, partial, source)
            )
            if not (wanted and useless):
                _check(response, source, *((206,) if wanted else ()))
                yield response, session
                return
        partial.forget()
        with self._get(source, {}) as (response, session):
            _check(response, source)
            yield response, session

    @contextmanager
    def _get(
        self, source: str, headers: Mapping[str, str]
    ) -> Iterator[tuple["requests.Response", "Session"]]:
        """A host's answer, its body still to be read, and the session that it can be cut by."""
        # Imported late: what is in the cache does not pay for it.
        from medperf_client.transfer.sessions import Session

        with Session() as session, self._head(session, source, headers) as response:
            yield response, session

    def _head(
        self, session: "Session", source: str, headers: Mapping[str, str]
    ) -> "requests.Response":
        import requests
        from urllib3.exceptions import ProtocolError

        from medperf_client.transfer.sessions import check_coding

        host = parts(source).netloc
        if known := self.silent.get(host):
            raise Offline(f"{source} cannot be fetched: {known}", AGAIN_HINT)
        try:
            # The bytes as they are stored: a host must not compress or unpack them on the way.
            headers = {"Accept-Encoding": "identity", **headers}
            options: dict[str, Any] = {}
            if token := self.token_for(source):
                # It goes nowhere else, and what .netrc says does not take its place.
                headers["Authorization"] = f"Bearer {token}"
                options = {"allow_redirects": False, "auth": no_auth}
            # What takes that long without a byte is away; so is what takes it for its first lines.
            with session.within(sum(self.timeouts)):
                response = session.get(
                    source, stream=True, timeout=self.timeouts, headers=headers, **options
                )
        except trouble() as error:
            cut = isinstance(error, requests.ConnectionError) and any(
                isinstance(cause, ProtocolError) for cause in error.args
            )
            why = reason(error)
            if isinstance(error, (requests.ConnectionError, requests.Timeout)) and not cut:
                # Perhaps it is not this host, but one that it points to.
                asked = str(error.request.url) if error.request else source
                self.silent.setdefault(parts(asked).netloc, why)
            said = f"{source} cannot be fetched: {why}"
            raise (TryLater if cut else Offline)(said, AGAIN_HINT) from error
        self.silent[host] = ""
        try:
            check_coding(response)
        except ValueError as error:
            raise Refused(f"{source} cannot be fetched: {error}", CODED_HINT) from error
        return response


def _continuation(partial: Partial, source: str, verified: bool) -> dict[str, str]:
    """What asks for the missing bytes only (RFC 9110, sections 13.1.5 and 14.2), if they will fit.

    A file whose hash is known needs no validator: it may go on from any host.
    """
    origin = partial.origin
    if origin is None or origin.total is None or not partial.size:
        return {}
    wanted = {"Range": f"bytes={partial.size}-"}
    if source == origin.source and origin.validator:
        return {**wanted, "If-Range": origin.validator}
    return wanted if verified else {}


def _continues(response: "requests.Response", partial: Partial, source: str) -> bool:
    """Whether a 206 answer is the missing bytes of the same file, whatever it was asked."""
    range_ = response.headers.get("Content-Range", "")
    found = re.fullmatch(f"bytes ({NUMBER})-{NUMBER}/({NUMBER}|\\*)", range_)
    origin, validator = partial.origin, _validator(response)
    return (
        found is not None
        and origin is not None
        and int(found[1]) == partial.size
        and found[2] in ("*", str(origin.total))
        and not _is_coded(response, source)
        and not (source == origin.source and _differ(validator, origin.validator))
    )


def _differ(one: str, other: str) -> bool:
    """Whether two validators contradict each other; a tag and a date do not."""
    return bool(one and other) and one != other and (one[0] == '"') == (other[0] == '"')


def _validator(response: "requests.Response") -> str:
    """What tells two versions of a file apart for sure (RFC 9110, section 8.8); may be empty."""
    tag = response.headers.get("ETag", "")
    if re.fullmatch(r'"[\x21\x23-\x7e]*"', tag):
        return tag
    modified = response.headers.get("Last-Modified", "")
    changed, now = _moment(modified), _moment(response.headers.get("Date", ""))
    # A file that changes twice within a second keeps its date: only an older date is one to trust.
    old = changed is not None and now is not None and (now - changed).total_seconds() >= 1
    return modified if old else ""


def _moment(text: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(text) if text.isascii() and text.isprintable() else None
    except (TypeError, ValueError, OverflowError):
        return None
    return found if found is None or found.tzinfo else found.replace(tzinfo=timezone.utc)


def _is_coded(response: "requests.Response", source: str) -> bool:
    """Whether to decode: its host compresses unasked, but what is called .gz already is gzip."""
    coding = response.headers.get("Content-Encoding", "identity")
    return coding != "identity" and not parts(source).path.endswith((".gz", ".tgz"))


def _check(response: "requests.Response", source: str, *allowed: int) -> None:
    """Raise unless the answer is the file: `Refused` for good, `Offline` for now."""
    status = response.status_code
    if status in (200, *allowed):
        return
    said = f"{source} cannot be fetched: its host answered {status} {response.reason}"
    if status >= 500 or status in (408, 425, 429):
        raise TryLater(said, AGAIN_HINT, asked_to_wait(response))
    if status >= 400:
        raise Refused(said, "Check the URL. Has its owner moved the file, or closed it?")
    raise Offline(said, AGAIN_HINT)


def _refuse_page(partial: Partial, source: str, kind: str) -> None:
    """Raise `Offline` for a captive portal's page: what has arrived is worth more."""
    if partial.size and partial.origin and _is_page(kind) and not _is_page(partial.origin.kind):
        raise Offline(f"{source} is a web page now, not the rest of the file", PAGE_HINT)


def _rejected(partial: Partial, source: str, expected: str) -> WrongHash:
    page = partial.origin is not None and _is_page(partial.origin.kind)
    found = partial.digest()
    return WrongHash(
        f"{source}: expected sha256 {expected}, found {found}. "
        f"What came is never used; to look at it: {partial.reject()}",
        PAGE_HINT if page else CHANGED_HINT,
    )


def _is_page(kind: str) -> bool:
    return kind.partition(";")[0].strip().lower() in ("text/html", "application/xhtml+xml")


def _length(header: str | None) -> int | None:
    return int(header) if header is not None and re.fullmatch(NUMBER, header) else None
