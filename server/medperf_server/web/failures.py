"""What went wrong on a page, as a page."""

from typing import Any

from flask import Response, render_template

from medperf_server.web.session import is_page

HEADINGS = {
    401: "Sign in again",
    403: "You may not do that",
    404: "There is no such page",
    413: "That is too large",
    429: "Too many requests",
    503: "The registry is not available",
    507: "The registry's disk is full",
}


def as_page(response: Response) -> Response:
    """An error's JSON as a page, where a page was asked for."""
    if response.status_code < 400 or not is_page() or not response.is_json:
        return response
    heading = HEADINGS.get(response.status_code)
    page = render_template("error.html", heading=heading, error=_told(response.get_json()))
    response.set_data(page)
    response.mimetype = "text/html"
    response.headers.pop("WWW-Authenticate", None)
    return response


def _told(body: Any) -> str:
    values = body.values() if isinstance(body, dict) else [body]
    lines = (value if isinstance(value, list) else [value] for value in values)
    return " ".join(str(line) for many in lines for line in many)
