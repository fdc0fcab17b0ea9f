"""GETs that cost little: `ETag`, `If-None-Match`, and answers kept while nothing changes.

Every change of an entity changes the change log's digest in its own transaction (see `changes`),
and each request reads the digest with its token. An answer that was built when the log had the
digest that it has now is therefore still right, whatever backup the database was put back from
meanwhile, and a worker gives it again without building it anew. Whatever else comes to decide what
a caller sees must be in the log too, or say `not_kept`.
"""

from dataclasses import dataclass

from flask import Flask, Response, g, request

MAX_ANSWERS = 1024
MAX_BYTES = 64 * 1024
# What of a request an answer depends on, besides its caller: links in it name the host.
ADDRESS = ("wsgi.url_scheme", "HTTP_HOST", "SCRIPT_NAME", "PATH_INFO", "QUERY_STRING")


@dataclass(frozen=True)
class Answer:
    """A body that was right when the change log had the digest `log`."""

    log: str
    body: bytes
    etag: str


def _of_the_api() -> bool:
    """Whether it is no page: those show more than what the change log tells of."""
    return request.path.startswith("/api/")


def not_kept() -> None:
    """Have the present answer built anew each time: it shows what the log does not tell of."""
    g.not_kept = True


def init_app(app: Flask) -> None:
    """Answer from memory before the view; tag and keep the answer after it."""
    # Per process, and shared by its threads: single operations on a dict are atomic.
    kept: dict[tuple[object, ...], Answer] = {}

    def key() -> tuple[object, ...]:
        return (g.caller, *map(request.environ.get, ADDRESS))

    @app.before_request
    def recall() -> Response | None:
        if request.method != "GET" or "caller" not in g or not _of_the_api():
            return None
        answer = kept.get(key())
        if answer is None or answer.log != g.log:
            return None
        response = Response(answer.body, mimetype="application/json")
        response.headers["ETag"] = answer.etag
        return response

    @app.after_request
    def tag(response: Response) -> Response:
        wanted = request.method in ("GET", "HEAD") and response.status_code == 200
        if not wanted or not _of_the_api():
            return response
        if "ETag" not in response.headers:
            response.add_etag()
            body = response.get_data()
            lasts = "caller" in g and "not_kept" not in g
            if lasts and request.method == "GET" and len(body) <= MAX_BYTES:
                if len(kept) >= MAX_ANSWERS:
                    kept.clear()
                kept[key()] = Answer(g.log, body, response.headers["ETag"])
        if "If-None-Match" in request.headers:
            response.make_conditional(request)
        return response
