"""HTTP to the registry: one session, short timeouts, the registry's own words in errors."""

from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

from medperf_client.errors import MedPerfError, Offline, Refused

if TYPE_CHECKING:
    import requests

PAGE_SIZE = 500
LOGIN_HINT = "Log in with: medperf auth login"

Json = dict[str, Any]


class Registry:
    """MedPerf's REST API, version v0.

    Every method raises `Offline` when no registry answers (or `offline` is set: then no socket is
    opened), and `Refused` when it answers with an error. After the first failure to connect the
    registry counts as away for the life of this object, so a command waits once at most.
    """

    def __init__(
        self,
        server_url: str,
        token: str | None,
        connect_timeout: float = 2.0,
        read_timeout: float = 60.0,
        offline: bool = False,
    ) -> None:
        self.server_url = server_url
        self._token = token
        self._timeouts = (connect_timeout, read_timeout)
        self._away = "working offline, as asked" if offline else ""

    @cached_property
    def _session(self) -> "requests.Session":
        # Imported late: what answers from the cache does not pay for it.
        import requests

        session = requests.Session()
        # The token is for this registry alone: no .netrc entry may take its place.
        session.auth = _no_auth
        session.headers["Accept"] = "application/json"
        if self._token:
            session.headers["Authorization"] = f"Bearer {self._token}"
        return session

    def get(self, path: str, **params: Any) -> Any:
        """One JSON document."""
        return self._send("GET", path, params=params)

    def pages(self, path: str) -> Iterator[Json]:
        """Every entity of a list, page by page."""
        offset = 0
        while True:
            page = self.get(path, limit=PAGE_SIZE, offset=offset)
            yield from page["results"]
            offset += len(page["results"])
            if page.get("next") is None or not page["results"]:
                return

    def post(self, path: str, body: Json, key: str) -> Any:
        """Create an entity; `key`, a UUID, is the `Idempotency-Key` of this submission."""
        return self._send("POST", path, json=body, headers={"Idempotency-Key": key})

    def put(self, path: str, body: Json, key: str) -> Any:
        """Change an entity; `key`, a UUID, is the `Idempotency-Key` of this submission."""
        return self._send("PUT", path, json=body, headers={"Idempotency-Key": key})

    def _send(self, method: str, path: str, **options: Any) -> Any:
        if self._away:
            raise Offline(f"{self.server_url}: {self._away}")
        import requests

        url = f"{self.server_url}/api/v0{path}"
        try:
            response = self._session.request(
                method, url, timeout=self._timeouts, allow_redirects=False, **options
            )
        except requests.RequestException as error:
            self._away = _reason(error)
            raise Offline(f"{self.server_url} cannot be reached: {self._away}") from error
        return _answer(response)


def _no_auth(request: "requests.PreparedRequest") -> "requests.PreparedRequest":
    return request


def _reason(error: Exception) -> str:
    """The innermost cause of a failed request, in a few words."""
    import requests

    if isinstance(error, requests.ConnectTimeout):
        return "no answer in time"
    if isinstance(error, requests.exceptions.SSLError):
        return f"its certificate is not trusted ({error})"
    cause: BaseException = error
    while cause.__cause__ or cause.__context__:
        cause = cause.__cause__ or cause.__context__ or cause
    return getattr(cause, "strerror", None) or str(cause) or type(cause).__name__


def _answer(response: "requests.Response") -> Any:
    """The JSON of a good answer; anything else raises."""
    status = response.status_code
    try:
        body = response.json()
    except ValueError:
        body = None
    if status >= 500:
        raise Offline(f"the registry answered {status} {response.reason}: {words(body)}")
    if status >= 400:
        hint = LOGIN_HINT if status == 401 else ""
        raise Refused(
            f"the registry refused ({status}): {words(body) or response.reason}", hint, status
        )
    if status >= 300 or body is None:
        raise Offline(
            f"{response.url} answered {status}, but not as a registry does",
            hint="A proxy or a captive portal may be in the way; "
            "check server_url with: medperf profile view",
        )
    if not isinstance(body, (dict, list)):
        raise MedPerfError(f"{response.url} answered with neither an object nor a list")
    return body


def words(body: object) -> str:
    """The registry's own words: `{field: [messages]}` or `{"detail": ...}` on one line."""
    if not isinstance(body, dict):
        return ""
    parts = []
    for field, messages in body.items():
        text = "; ".join(map(str, messages)) if isinstance(messages, list) else str(messages)
        parts.append(text if field in ("detail", "non_field_errors") else f"{field}: {text}")
    return ". ".join(parts)
