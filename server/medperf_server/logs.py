"""One JSON line a request on stderr, with the request's ID."""

import json
import re
import sys
import time
import traceback
import uuid
from datetime import datetime, timezone
from typing import Any

from flask import Flask, Response, g, request

# What stands before a secret.
SECRET_PATHS = ("/invitations/", "/feeds/", "/notices/stop/")
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


def log(message: str, **fields: Any) -> None:
    """Write one line: the time (UTC), the message, the fields. Whole lines only, in one write."""
    now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
    line = json.dumps({"time": now, "message": message, **fields})
    sys.stderr.write(line + "\n")


def log_failure(message: str, error: BaseException) -> None:
    """Write what went wrong in the present request, with the traceback."""
    trace = "".join(traceback.format_exception(error))
    log(message, request_id=g.request_id, error=str(error), traceback=trace)


def _shown(path: str) -> str:
    """A path without what would let a reader of the log in."""
    hidden = (before for before in SECRET_PATHS if path.startswith(before))
    return next((f"{before}..." for before in hidden), path)


def init_app(app: Flask) -> None:
    """Give each request an ID (the caller's own if it is a sane one) and log how it ended."""

    @app.before_request
    def begin() -> None:
        given = request.headers.get("X-Request-ID", "")
        g.request_id = given if REQUEST_ID.fullmatch(given) else str(uuid.uuid4())
        g.started = time.perf_counter()

    @app.after_request
    def end(response: Response) -> Response:
        response.headers["X-Request-ID"] = g.request_id
        log(
            "request",
            request_id=g.request_id,
            method=request.method,
            path=_shown(request.path),
            status=response.status_code,
            milliseconds=round((time.perf_counter() - g.started) * 1000, 2),
            user=g.caller.id if "caller" in g else None,
            address=request.remote_addr,
        )
        return response
