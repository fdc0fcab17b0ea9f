"""A host of files that knows byte ranges: Werkzeug's, which checks `If-Range` as RFC 9110 says."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flask import Flask, Response, send_from_directory
from werkzeug.serving import WSGIRequestHandler, make_server


class _Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, *_: object) -> None:
        pass


@contextmanager
def range_host(folder: Path) -> Iterator[str]:
    """Serve a folder with ETags, dates and ranges; gives the URL, without a slash at the end."""
    app = Flask(__name__, static_folder=None)

    @app.get("/<path:name>")
    def file(name: str) -> Response:
        return send_from_directory(folder, name)

    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=_Quiet)
    serving = threading.Thread(target=server.serve_forever, daemon=True)
    serving.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        serving.join()
        server.server_close()
