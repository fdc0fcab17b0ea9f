"""What the next page has to say first, carried there by a cookie that lasts a minute."""

from urllib.parse import quote, unquote

from flask import Response, g, request

COOKIE = "medperf_notice"
SECONDS = 60
MOST = 1000


def notify(text: str, good: bool = True) -> None:
    """Have the page that this request leads to begin with a text: good news, or not."""
    g.notice = f"{'good' if good else 'bad'}:{text}"


def notice() -> tuple[str, str] | None:
    """The kind ("good" or "bad") and the text that the present page begins with."""
    kind, _, text = unquote(request.cookies.get(COOKIE, "")).partition(":")
    return (kind, text[:MOST]) if kind in ("good", "bad") and text else None


def carry(response: Response) -> Response:
    """Hand a new notice on, and drop the one that was shown."""
    if "notice" in g:
        response.set_cookie(
            COOKIE,
            quote(g.notice[:MOST]),
            max_age=SECONDS,
            httponly=True,
            samesite="Strict",
            secure=request.is_secure,
        )
    elif notice() and response.status_code == 200 and response.mimetype == "text/html":
        response.delete_cookie(COOKIE)
    return response
