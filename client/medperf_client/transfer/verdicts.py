"""What a failed request means: only what waiting may mend is `Offline`, all else is `Refused`.

Decided here and nowhere else, for answers and for requests that had none.
"""

import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from medperf_client.errors import MedPerfError, Offline, Refused, TryLater
from medperf_client.transfer.network import asked_to_wait, innermost, proxy_of, reason

if TYPE_CHECKING:
    import requests

AGAIN_HINT = "Check the URL, or try again once its host answers; what has arrived is kept."
URL_HINT = "Check the URL, and where it leads. Has its owner moved the file, or closed it?"
PAGE_HINT = "What came is a web page: does this network ask for a login in a browser first?"
PROXY_HINT = (
    "Ask whoever runs the proxy to let this host pass, or name the host in NO_PROXY; a proxy that "
    "wants a login takes it in its URL: HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT"
)
TLS_HINT = (
    "Check the URL and this machine's clock. Where a proxy opens TLS, or a host has a "
    "certificate of its own, REQUESTS_CA_BUNDLE names the file of the certificates to trust."
)
CA_HINT = "REQUESTS_CA_BUNDLE, or CURL_CA_BUNDLE, has to name a file of certificates."
# "In preparation", "later" in several forms.
PASSING = frozenset({202, 408, 425, 429})
# Of a host that cannot do it at all, and not one that is broken today.
LASTING = frozenset({501, 505})
PROXY_LOGIN, PORTAL_LOGIN = 407, 511


def of_answer(source: str, response: "requests.Response") -> MedPerfError:
    """What to raise for an answer that is not the file at the URL `source`."""
    status = response.status_code
    who = _elsewhere(source, response.url) or _who(response)
    said = f"{source} cannot be fetched: {who} answered {status} {response.reason}"
    if response.is_redirect:
        # One that is not followed, since a token goes to no other place. A registry sends none.
        return Offline(said, PAGE_HINT)
    hint = {PROXY_LOGIN: PROXY_HINT, PORTAL_LOGIN: PAGE_HINT}.get(status)
    return _of_status(said, status, hint, asked_to_wait(response))


def of_error(source: str, error: Exception) -> MedPerfError:
    """What to raise for a request that ended in what `network.trouble` names."""
    # Imported late: what answers from the cache does not pay for it.
    import requests
    from urllib3.exceptions import ProtocolError

    request = error.request if isinstance(error, requests.RequestException) else None
    where = _elsewhere(source, str(request.url)) if request is not None else ""
    said = f"{source} cannot be fetched: {where}{': ' if where else ''}{reason(error)}"
    cause = innermost(error)
    if isinstance(error, requests.Timeout):
        return Offline(said, AGAIN_HINT)
    if refused := re.match(r"Tunnel connection failed: (\d{3})", str(cause)):
        return _of_status(said, int(refused[1]), PROXY_HINT)
    if is_distrust(error):
        return Refused(said, TLS_HINT)
    # A redirect in a circle, or to what is no URL.
    if isinstance(error, (requests.TooManyRedirects, ValueError)):
        return Refused(said, URL_HINT)
    if type(error) is OSError:
        # Of requests itself, before it asks anybody.
        return Refused(said, CA_HINT)
    # Somebody was there, and the connection ended before the answer.
    cut = isinstance(error, requests.ConnectionError) and any(
        isinstance(cause, ProtocolError) for cause in error.args
    )
    return (TryLater if cut else Offline)(said, AGAIN_HINT)


def is_distrust(error: Exception) -> bool:
    """Whether TLS failed for good: its certificate is not trusted, or it speaks no TLS."""
    import ssl

    cause = innermost(error)
    return isinstance(cause, ssl.SSLError) and not isinstance(cause, ssl.SSLEOFError)


def _elsewhere(source: str, asked: str) -> str:
    """The host that a URL leads to, if it is another than its own."""
    own, other = (urlsplit(url).netloc.rpartition("@")[2].lower() for url in (source, asked))
    return "" if own == other else f"{other}, where it leads"


def _of_status(
    said: str, status: int, hint: str | None, seconds: float | None = None
) -> MedPerfError:
    if status in PASSING or (status >= 500 and status not in LASTING):
        return TryLater(said, hint or AGAIN_HINT, seconds)
    return Refused(said, hint or URL_HINT)


def proxy_before(response: "requests.Response") -> str:
    """The proxy that may have answered in place of a host; empty where it cannot, within TLS."""
    return "" if response.url.startswith("https:") else proxy_of(response.url)


def _who(response: "requests.Response") -> str:
    """Whose answer it is, as far as one can tell."""
    proxy = proxy_before(response)
    if proxy and response.status_code == PROXY_LOGIN:
        return f"the proxy {proxy}"
    return f"its host, or the proxy {proxy}," if proxy else "its host"
