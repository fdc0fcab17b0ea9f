"""What every answer tells the browser that got it, and which proxies are believed.

The headers are OWASP's (https://cheatsheetseries.owasp.org, "HTTP Headers" and "REST Security").
Pages carry no inline script or style and load nothing from elsewhere. The API's answers are no
documents at all: they go without what holds for documents only, for a site reads them all day.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
API_POLICY = "default-src 'none'; frame-ancestors 'none'"
EVERYWHERE = [
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
]
# What a client keeps of the API it asks about again, with the ETag; of pages it keeps nothing, for
# the next one at a shared computer.
API_HEADERS = [
    *EVERYWHERE,
    ("Content-Security-Policy", API_POLICY),
    ("Cache-Control", "private, no-cache"),
]
PAGE_HEADERS = [
    *EVERYWHERE,
    ("Referrer-Policy", "same-origin"),
    ("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Content-Security-Policy", PAGE_POLICY),
    ("Cache-Control", "no-store"),
]
ONLY_HTTPS = ("Strict-Transport-Security", "max-age=31536000")
# A page among the API's answers.
DOCUMENTATION = "/api/v0/docs"


def with_headers(application: WSGIApplication) -> WSGIApplication:
    """The application, each answer with the headers that it did not set itself."""

    def wrapped(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        is_api = path.startswith("/api/") and path.rstrip("/") != DOCUMENTATION
        ours = API_HEADERS if is_api else PAGE_HEADERS

        def start(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
            own = {name.lower() for name, _ in headers}
            headers += [header for header in ours if header[0].lower() not in own]
            if environ["wsgi.url_scheme"] == "https":
                headers.append(ONLY_HTTPS)
            return start_response(status, headers, *error)

        return application(environ, start)

    return wrapped


def init_app(app: Flask) -> None:
    """Guard every answer, those of Flask's own to broken requests too."""
    app.wsgi_app = with_headers(app.wsgi_app)  # type: ignore
    if proxies := app.config["TRUSTED_PROXIES"]:
        # Their X-Forwarded-Host is not read: with it a client could choose where links lead.
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=proxies, x_proto=proxies)  # type: ignore
