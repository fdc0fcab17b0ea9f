"""What the network does: whether anybody answers at a URL, and why a request failed."""

from threading import Thread
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit

from medperf_client.errors import UsageError
from medperf_client.urls import split

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
        return split(url)
    except ValueError as error:
        raise UsageError(f"{url[:MOST_SHOWN]!r} is not a URL: {error}") from error


def reason(error: Exception) -> str:
    """Why a request failed, in a few words; a proxy that stood in the way is named."""
    import ssl

    import requests

    if isinstance(error, requests.Timeout):
        return "no answer in time"
    if isinstance(error, ValueError):
        return str(error)
    cause = innermost(error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {cause.verify_message}"
    if isinstance(cause, ssl.SSLError):
        return f"TLS failed: {cause.reason or cause}"
    said = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
    if isinstance(error, requests.exceptions.ProxyError):
        asked = str(error.request.url) if error.request else ""
        return f"the proxy {proxy_of(asked)}: {said}"
    return said


def innermost(error: BaseException) -> BaseException:
    """What an error goes back to."""
    while deeper := error.__cause__ or error.__context__:
        error = deeper
    return error


def is_reset(error: Exception) -> bool:
    """Whether the other side broke the connection off, and not this one as time ran out."""
    import requests

    late = isinstance(error, requests.Timeout)
    return not late and isinstance(innermost(error), ConnectionResetError)


def proxy_of(url: str) -> str:
    """The proxy that a URL is asked for through, without its password; empty if there is none."""
    from requests.utils import get_environ_proxies, prepend_scheme_if_needed, select_proxy

    proxy = select_proxy(url, get_environ_proxies(url))
    if not proxy:
        return ""
    found = urlsplit(prepend_scheme_if_needed(proxy, "http"))
    return f"{found.scheme}://{found.netloc.rpartition('@')[2]}"


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
    # Imported late: what answers from the cache does not pay for it.
    import socket

    proxy = proxy_of(url)
    target = urlsplit(proxy or url)
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
    return f"the proxy {proxy}: {found[0]}" if proxy and found[0] else found[0]


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
