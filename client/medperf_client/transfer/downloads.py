"""One file from one host: asked for from where it was cut, until all of it is here."""

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from medperf_cache.partials import Origin, Partial
from medperf_cache.signatures import PAGE, described
from medperf_client.deadlines import Pace
from medperf_client.errors import Offline, Refused, TryLater, WrongHash
from medperf_client.transfer.backoff import pause
from medperf_client.transfer.bounds import Bounds
from medperf_client.transfer.network import MOST_SHOWN, no_auth, parts, reason, trouble
from medperf_client.transfer.verdicts import AGAIN_HINT, PAGE_HINT, of_answer, of_error

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
CHANGED_HINT = "The file was changed, or its registered hash is wrong."
CODED_HINT = "Ask whoever hosts it to send the file as it is."
# What is undone where a host codes a file that was asked for as it is.
GZIP = ("gzip", "x-gzip")
# As a header has one: what is longer is no size of anything, and more than `int` reads at will.
NUMBER = "[0-9]{1,19}"


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
                if self._is_whole(partial, source, expected, clean):
                    return
                if expected and (partial.fresh or clean):
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

    def _is_whole(self, partial: Partial, source: str, expected: str | None, clean: bool) -> bool:
        """Whether the file is here now, in the form that is meant.

        Where its hash is known that is the form of the bytes that has it. Else it is the decoded
        one, but what is called .gz already is gzip. Raises `Refused` for what cannot be decoded,
        unless that may be of two versions.
        """
        if partial.digest() == expected:
            return True
        coding = partial.origin.coding if partial.origin else ""
        if not coding or (not expected and parts(source).path.endswith((".gz", ".tgz"))):
            return not expected
        if coding not in GZIP:
            return False
        decoded = self._decode(partial, source)
        if not decoded and (partial.fresh or clean):
            said = f"{source} cannot be fetched: its host calls it {coding!r}, and that it is not"
            raise Refused(said, CODED_HINT)
        return decoded and (not expected or partial.digest() == expected)

    def _decode(self, partial: Partial, source: str) -> bool:
        """Put what gzip unpacks to in the place of what is here; whether it is gzip."""
        # Imported late: hosts that code files unasked are rare.
        import gzip
        import zlib

        origin, fresh = partial.origin, partial.fresh
        assert origin is not None
        with gzip.open(partial.set_aside()) as coded:
            partial.begin(replace(origin, total=None, coding=""))
            try:
                while chunk := coded.read(CHUNK_BYTES):
                    partial.append(chunk)
                    self._check_size(partial, source, partial.size)
            except (EOFError, gzip.BadGzipFile, zlib.error) as error:
                partial.forget()
                if isinstance(error, EOFError) and origin.total is None:
                    # Whoever does not say how long it is may have been cut.
                    raise TryLater(f"{source} ended too early", AGAIN_HINT) from error
            # Bytes of one version and source: what is made of them is as fresh as they were.
            partial.fresh = fresh
        return partial.origin is not None

    def _continue(self, partial: Partial, source: str, expected: str | None) -> None:
        """One answer of the host, appended as far as it gets, its bytes as they come."""
        with self._answer(partial, source, bool(expected)) as (response, session):
            length = _length(response.headers.get("Content-Length"))
            total = partial.size + length if length is not None else None
            kind, coding = response.headers.get("Content-Type", ""), _coding(response)
            if response.status_code == 206 and partial.origin:
                total = partial.origin.total
                went_on = replace(partial.origin, source=source, validator=_validator(response))
                partial.go_on(went_on)
            else:
                _refuse_page(partial, source, kind)
                if coding not in ("", *GZIP) and not expected:
                    said = f"{source} cannot be fetched: its host codes it as {coding!r}"
                    raise Refused(said, CODED_HINT)
                total = length
                partial.begin(Origin(source, _validator(response), total, kind, coding))
            self.progress(partial.size, total)
            self._check_size(partial, source, total or 0)
            for chunk in self._chunks(response, session, source):
                partial.append(chunk)
                self._check_size(partial, source, partial.size)
                self.progress(partial.size, total)
            if total is None:
                self.progress(partial.size, partial.size)
            elif partial.size != total:
                raise TryLater(f"{source} ended after {partial.size} of {total} bytes", AGAIN_HINT)

    def _check_size(self, partial: Partial, source: str, size: int) -> None:
        try:
            self.bounds.check(source, size)
        except Refused:
            # It would be in the way of what is smaller.
            partial.forget()
            raise

    def _chunks(
        self, response: "requests.Response", session: "Session", source: str
    ) -> Iterator[bytes]:
        """The body as it comes. Raises `TryLater` if it ends too early, `Offline` if it drips."""
        seconds = max(PACE_SECONDS, self.timeouts[1])
        pace = Pace(seconds, seconds * self.bounds.least_speed)
        why = ""
        with pace.kept(session.cut):
            try:
                while chunk := pace.wait_for(
                    lambda: response.raw.read1(CHUNK_BYTES, decode_content=False)
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
            verdict = of_error(source, error)
            away = (requests.ConnectionError, requests.Timeout)
            if isinstance(error, away) and type(verdict) is Offline:
                # Perhaps it is not this host, but one that it points to.
                asked = str(error.request.url) if error.request else source
                self.silent.setdefault(parts(asked).netloc, reason(error))
            raise verdict from error
        self.silent[host] = ""
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
        and _coding(response) == origin.coding
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
    from email.utils import parsedate_to_datetime

    try:
        found = parsedate_to_datetime(text) if text.isascii() and text.isprintable() else None
    except (TypeError, ValueError, OverflowError):
        return None
    return found if found is None or found.tzinfo else found.replace(tzinfo=timezone.utc)


def _coding(response: "requests.Response") -> str:
    """What a host did to the bytes of a file on the way, unasked; empty if nothing."""
    coding = response.headers.get("Content-Encoding", "")[:MOST_SHOWN].strip().lower()
    return "" if coding == "identity" else coding


def _check(response: "requests.Response", source: str, *allowed: int) -> None:
    """Raise unless the answer is the file; see `of_answer`."""
    if response.status_code not in (200, *allowed):
        raise of_answer(source, response)


def _refuse_page(partial: Partial, source: str, kind: str) -> None:
    """Raise `Offline` for a captive portal's page: what has arrived is worth more."""
    if partial.size and partial.origin and _is_page(kind) and not _is_page(partial.origin.kind):
        raise Offline(f"{source} is a web page now, not the rest of the file", PAGE_HINT)


def _rejected(partial: Partial, source: str, expected: str) -> WrongHash:
    found, kept = partial.digest(), partial.reject()
    kind = described(kept)
    is_ = f", {kind}" if kind else ""
    return WrongHash(
        f"{source}: expected sha256 {expected}, found {found}{is_}. "
        f"What came is never used; to look at it: {kept}",
        PAGE_HINT if kind == PAGE else CHANGED_HINT,
    )


def _is_page(kind: str) -> bool:
    return kind.partition(";")[0].strip().lower() in ("text/html", "application/xhtml+xml")


def _length(header: str | None) -> int | None:
    return int(header) if header is not None and re.fullmatch(NUMBER, header) else None
