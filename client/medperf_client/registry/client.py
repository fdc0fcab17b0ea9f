"""HTTP to the registry: one session, short timeouts, the registry's own words in errors."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Protocol

from medperf_client.errors import LOGIN_HINT, ONLINE_HINT, NotLoggedIn, Offline, Refused, TryLater
from medperf_client.registry.wire import answered
from medperf_client.transfer.network import (
    asked_to_wait,
    is_reset,
    no_auth,
    reason,
    trouble,
    unreachable,
)
from medperf_client.transfer.verdicts import TLS_HINT, is_distrust, proxy_before

if TYPE_CHECKING:
    import requests

    from medperf_client.ledger.records import Ledger, Upload
    from medperf_client.transfer.sessions import Session

PAGE_SIZE = 500
# Of an answer, decoded: a page of full entities has a few.
MOST_ANSWER_BYTES = 32 << 20
# Requests that leave nothing with the registry.
READS = ("GET", "HEAD")
AS_ASKED = "working offline, as asked"
AWAY_HINT = "Try again once it answers; check server_url with: medperf profile view"

Json = dict[str, Any]


class Piece(Protocol):
    """Bytes that are sent as they are read, all of them known before."""

    data: bytes

    def __len__(self) -> int:
        """How many."""


@dataclass(frozen=True)
class _Noted:
    """What the ledger is told of a request."""

    body: bytes = b""
    key: str | None = None
    upload: "Upload | None" = None


NO_BODY = _Noted()


class Registry:
    """MedPerf's REST API, version v0.

    Every method raises `Offline` when no registry answers (or `offline` is set: then no socket is
    opened), and `Refused` when it answers with an error. After the first time without an answer
    the registry counts as away for the life of this object, so a command waits once at most.
    `answer_timeout` is for a whole answer, in seconds, however busily it drips; what is sent may
    take longer, at `slowest` bytes a second.

    Each request that writes has a line in the `ledger` before it goes, each try one of its own; a
    write raises `Unrecorded` if that cannot be, and does not go.
    """

    def __init__(
        self,
        server_url: str,
        token: str | None,
        connect_timeout: float = 2.0,
        read_timeout: float = 60.0,
        offline: bool = False,
        answer_timeout: float = 300.0,
        slowest: int = 1000,
        ledger: "Ledger | None" = None,
    ) -> None:
        self.server_url = server_url
        self._token = token
        self.connect_timeout, self._read_timeout = connect_timeout, read_timeout
        self._answer_timeout, self._slowest = answer_timeout, slowest
        self._away = AS_ASKED if offline else None
        self._answers = False
        self._ledger = ledger

    @property
    def token_digest(self) -> str:
        """SHA-256 of the token: tells members apart without keeping it."""
        return sha256((self._token or "").encode()).hexdigest()

    @cached_property
    def _session(self) -> "Session":
        # Imported late: what answers from the cache does not pay for it.
        from medperf_client.transfer.sessions import Session

        session = Session()
        # The token is for this registry alone: no .netrc entry may take its place.
        session.auth = no_auth
        session.headers["Accept"] = "application/json"
        if self._token:
            session.headers["Authorization"] = f"Bearer {self._token}"
        return session

    def get(self, path: str, hurried: bool = False, **params: Any) -> Any:
        """One JSON document; None if the registry has none there.

        With `hurried` the whole answer may take no longer than a connection.
        """
        return self._send("GET", path, hurried, params=params)

    def pages(self, path: str) -> Iterator[Any]:
        """Every entity of a list, page by page."""
        offset = 0
        while True:
            page = answered("page", self.get(path, limit=PAGE_SIZE, offset=offset))
            yield from page["results"]
            offset += len(page["results"])
            if page.get("next") is None or not page["results"]:
                return

    def post(self, path: str, body: Json, key: str) -> Any:
        """Create an entity; `key`, a UUID, is the `Idempotency-Key` of this submission."""
        return self._send("POST", path, body=_encoded(body), key=key)

    def put(self, path: str, body: Json, key: str) -> Any:
        """Change an entity; `key`, a UUID, is the `Idempotency-Key` of this submission."""
        return self._send("PUT", path, body=_encoded(body), key=key)

    def _send(
        self,
        method: str,
        path: str,
        hurried: bool = False,
        body: bytes = b"",
        key: str | None = None,
        **options: Any,
    ) -> Any:
        whole = self.connect_timeout if hurried else self._answer_timeout
        patience = min(self._read_timeout, whole)
        if key is not None:
            headers = {"Idempotency-Key": key, "Content-Type": "application/json"}
            options |= {"headers": headers, "data": body}
        noted = _Noted(body, key)
        return answer(self._exchange(method, path, patience, whole, noted, **options))

    def upload(
        self,
        method: str,
        path: str,
        headers: dict[str, str],
        piece: "Piece | None" = None,
        upload: "Upload | None" = None,
        work: float = 0.0,
    ) -> "requests.Response":
        """One request of an upload, whatever its answer; for `work` it may take longer, in seconds.

        `piece` is what goes of the file that `upload` tells of. Raises `Offline`; `TryLater` if it
        may have arrived.
        """
        sending = len(piece) / self._slowest if piece else 0.0
        whole = self._answer_timeout + work + sending
        patience = self._read_timeout + work
        noted = _Noted(piece.data if piece else b"", None, upload)
        options = {"headers": headers, "data": piece}
        return self._exchange(method, path, patience, whole, noted, **options)

    def _exchange(
        self,
        method: str,
        path: str,
        patience: float,
        whole: float,
        noted: _Noted = NO_BODY,
        **options: Any,
    ) -> "requests.Response":
        """One request and all of its answer: `patience` is for silence, in seconds."""
        self.reach()
        ledger = None if method in READS else self._ledger
        number = 0
        if ledger is not None:
            number = ledger.write(method, path, noted.body, noted.key, noted.upload)
        try:
            response = self._asked(
                method,
                f"{self.server_url}/api/v0{path}",
                whole,
                MOST_ANSWER_BYTES,
                timeout=(self.connect_timeout, patience),
                allow_redirects=False,
                **options,
            )
        except trouble() as error:
            self._answers = False
            if ledger is not None:
                ledger.failed(number, f"no answer: {reason(error)}")
            message = f"{self.server_url} gave no answer: {reason(error)}"
            if method != "GET":
                # It may have arrived. Its key makes it safe to try again, if anybody is there.
                self._away = None
                raise TryLater(message, AWAY_HINT) from error
            self._away = reason(error)
            raise Offline(message, TLS_HINT if is_distrust(error) else AWAY_HINT) from error
        self._answers = True
        if ledger is not None:
            status, document = response.status_code, _told(response)
            said = words(document) if status >= 400 else ""
            ledger.answered(number, status, response.content, document, said)
        return response

    def _asked(self, method: str, *arguments: Any, **options: Any) -> "requests.Response":
        """See `Session.whole`. A read whose connection is reset is sent once more.

        One may be closed just as it is used (RFC 9110, 9.2.2): no word of the registry.
        """
        try:
            return self._session.whole(method, *arguments, **options)
        except trouble() as error:
            if method not in READS or not is_reset(error):
                raise
        return self._session.whole(method, *arguments, **options)

    @cached_property
    def knows_keys(self) -> bool:
        """Whether the registry honours `Idempotency-Key`: one with a change log does."""
        return self.get("/changes/", limit=1) is not None

    def hear(self) -> None:
        """Raise `Offline` unless the registry answers; asked in a hurry, where it never did yet.

        For a write, which waits long for its answer: whoever is there and silent is found out.
        """
        if not self._answers:
            try:
                answered("version", self.get("/version", hurried=True) or {"version": ""})
            except Refused:
                pass  # Whoever refuses has answered.
            except TryLater as error:
                if error.seconds:
                    raise

    def reach(self) -> None:
        """Raise `Offline` unless the registry can be reached; it is tried once."""
        if self._away is None:
            try:
                self._away = unreachable(self.server_url, self.connect_timeout)
            except ValueError as error:
                self._away = str(error)
        if self._away:
            hint = ONLINE_HINT if self._away == AS_ASKED else AWAY_HINT
            raise Offline(f"{self.server_url} cannot be reached: {self._away}", hint)


def _encoded(body: Json) -> bytes:
    """A body as it goes. Raises `Refused` for what is no JSON, such as a number that is none."""
    try:
        return json.dumps(body, allow_nan=False).encode("ascii")
    except ValueError as error:
        raise Refused(f"it cannot be sent as JSON: {error}") from error


def answer(response: "requests.Response") -> Any:
    """The JSON of a good answer, None if there is nothing to get; anything else raises."""
    status, body = response.status_code, _told(response)
    if status >= 500 or status in (408, 425, 429):
        raise _later(response, words(body) or response.reason)
    # A server without the change log may answer with a page for people.
    if status == 404 and response.request.method == "GET":
        return None
    if not isinstance(body, (dict, list)) or 300 <= status < 400:
        target = response.headers.get("Location")
        moved = f" (it points to {target})" if target else ""
        raise Offline(
            f"{response.url}{_or_proxy(response)} answered {status}, "
            f"but not as a registry does{moved}",
            hint="A proxy or a captive portal may be in the way; "
            "check server_url with: medperf profile view",
        )
    if status >= 400:
        said = f"the registry refused ({status}): {words(body) or response.reason}"
        raise NotLoggedIn(said, LOGIN_HINT) if status == 401 else Refused(said)
    return body


def _or_proxy(response: "requests.Response") -> str:
    """Who else may have answered, in words."""
    proxy = proxy_before(response)
    return f", or the proxy {proxy}," if proxy else ""


def _told(response: "requests.Response") -> Any:
    """The document that was answered; None if there is none that can be read."""
    try:
        return _document(response.content)
    except (ValueError, RecursionError):
        return None


def _document(content: bytes) -> Any:
    """What JSON says; what is no number (NaN) is a word, and half a pair of surrogates a "?"."""
    found = json.loads(content, parse_constant=str)
    if b"\\ud" in content.lower():
        # Such a half is no text: no URL or file's name can hold it, and no encoding.
        found = json.loads(json.dumps(found, ensure_ascii=False).encode("utf-8", "replace"))
    return found


def _later(response: "requests.Response", said: str) -> TryLater:
    """A busy or broken registry, with what it asked for."""
    answered = f"the registry{_or_proxy(response)} answered {response.status_code}: {said}"
    return TryLater(answered, "Try again later.", asked_to_wait(response))


def words(body: object) -> str:
    """The registry's own words: `{field: [messages]}` or `{"detail": ...}` on one line."""
    if not isinstance(body, dict):
        return ""
    parts = []
    for field, messages in body.items():
        text = "; ".join(map(str, messages)) if isinstance(messages, list) else str(messages)
        parts.append(text if field in ("detail", "non_field_errors") else f"{field}: {text}")
    return ". ".join(parts)
