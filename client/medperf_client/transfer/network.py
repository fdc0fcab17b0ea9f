"""What the network does: whether anybody answers at a URL, and why a request failed."""

from threading import Thread
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit

from medperf_client.errors import UsageError

if TYPE_CHECKING:
    import requests

# Of what is no URL, in a message.
MOST_SHOWN = 200


def trouble() -> tuple[type[Exception], ...]:
    """What `requests` raises for anything a host can do to it.

    Not only its own errors: urllib3 refuses some host names itself, and a redirect to what is no
    URL is a `ValueError`.
    """
    # Imported late: what answers from the cache does not pay for it.
    import urllib3

    return (OSError, ValueError, RecursionError, urllib3.exceptions.HTTPError)


def parts(url: str) -> SplitResult:
    """The parts of the URL of a file. Raises `UsageError` for what is none, whoever wrote it."""
    try:
        found = urlsplit(url)
        # Asking for the port reads it.
        is_file = found.scheme in ("http", "https") and found.hostname and found.port != 0
        if is_file and url.isprintable():
            return found
        why = "it starts with http:// or https:// and a host's name"
    except ValueError as error:
        why = str(error)
    raise UsageError(f"{url[:MOST_SHOWN]!r} is not a URL: {why}")


def reason(error: Exception) -> str:
    """The innermost cause of a failed request, in a few words."""
    import requests

    if isinstance(error, requests.Timeout):
        return "no answer in time"
    if isinstance(error, requests.exceptions.SSLError):
        return f"its certificate is not trusted ({error})"
    cause: BaseException = error
    while cause.__cause__ or cause.__context__:
        cause = cause.__cause__ or cause.__context__ or cause
    return getattr(cause, "strerror", None) or str(cause) or type(cause).__name__


def asked_to_wait(response: Any) -> float | None:
    """`Retry-After` in seconds (RFC 9110, section 10.2.3); a date by the host's own clock."""
    # Imported late: what answers from the cache does not pay for it.
    from email.utils import parsedate_to_datetime

    asked = response.headers.get("Retry-After", "")
    if asked.isdecimal():
        return float(asked)
    try:
        until, now = (parsedate_to_datetime(d) for d in (asked, response.headers.get("Date", "")))
        return max(0.0, (until - now).total_seconds())
    except (TypeError, ValueError, OverflowError):
        return None


def unreachable(url: str, seconds: float) -> str:
    """Why no connection to a URL's host, or to its proxy, comes about in time; empty if one does.

    A name that no server resolves and a host of many silent addresses take no longer than one
    silent address: `seconds`. Raises `ValueError` for what is no URL.
    """
    # Imported late: what answers from the cache does not pay for them.
    import socket

    from requests.utils import get_environ_proxies, prepend_scheme_if_needed, select_proxy

    proxy = select_proxy(url, get_environ_proxies(url))
    target = urlsplit(prepend_scheme_if_needed(proxy, "http") if proxy else url)
    port = target.port or (443 if target.scheme == "https" else 80)
    found = ["no answer in time"]

    def connect() -> None:
        try:
            addresses = socket.getaddrinfo(target.hostname, port, type=socket.SOCK_STREAM)
            for *_, address in addresses:
                found[0] = _refusal(address, seconds / len(addresses))
                if not found[0]:
                    return
        except (OSError, ValueError) as error:
            found[0] = getattr(error, "strerror", None) or str(error)

    # A thread, because nothing bounds the time that resolving a name takes.
    waiting = Thread(target=connect, daemon=True)
    waiting.start()
    waiting.join(seconds)
    return found[0]


def _refusal(address: tuple[Any, ...], seconds: float) -> str:
    import socket

    try:
        socket.create_connection(address[:2], seconds).close()
    except TimeoutError:
        return "no answer in time"
    except OSError as error:
        return error.strerror or str(error)
    return ""


def no_auth(request: "requests.PreparedRequest") -> "requests.PreparedRequest":
    """As `auth` of a request: it goes as it is, and no .netrc entry changes its token."""
    return request
