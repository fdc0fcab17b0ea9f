"""Files that members keep here: reading them, and giving them up."""

import re
from io import BufferedReader
from typing import Any

from flask import Response, abort, g, request
from flask.views import MethodView
from sqlalchemy import select
from werkzeug.wsgi import FileWrapper

from medperf_server.answers import not_kept
from medperf_server.api.common import Blueprint, page, page_of
from medperf_server.assets import NotStored, store, unavailable
from medperf_server.assets.holdings import release
from medperf_server.base import db
from medperf_server.links import KEY
from medperf_server.models import Asset, AssetHolder
from medperf_server.schemas import AssetSchema, PageQuery

blueprint = Blueprint("assets", __name__, description="Files by their SHA-256")

SENT_AT_ONCE = 1 << 16
LINK = {
    "in": "query",
    "name": KEY,
    "description": "Of a link as entities have it: where it is good, no token is needed",
    "schema": {"type": "string"},
}
blueprint.register_error_handler(OSError, unavailable)


@blueprint.route("/me/assets/")
@blueprint.arguments(PageQuery, location="query")
@blueprint.response(200, page_of(AssetSchema))
def held(query: dict[str, Any]) -> dict[str, Any]:
    """The files that the caller holds."""
    mine = select(Asset).join(AssetHolder).where(AssetHolder.user_id == g.caller.id)
    not_kept()
    return page(mine, Asset.sha256, query)


@blueprint.route("/assets/<string(length=64):sha256>")
class AssetView(MethodView):
    """One file."""

    @blueprint.doc(parameters=[LINK])
    @blueprint.response(200, content_type="application/octet-stream")
    @blueprint.alt_response(206, content_type="application/octet-stream", success=True)
    @blueprint.alt_response(304, success=True)
    def get(self, sha256: str) -> Response:
        """A file, or with `Range` a part of it; by a link with its key without a token, too.

        Any member who knows its SHA-256 may read it: that is what lets all who see a container
        fetch what it is made of. A SHA-256 that only a private benchmark names is told to its
        members alone.
        """
        asset = _find(sha256)
        try:
            file = store().open(sha256)
        except NotStored:
            abort(404, "Not found.")
        body = FileWrapper(file, SENT_AT_ONCE)
        response = Response(body, mimetype="application/octet-stream", direct_passthrough=True)
        response.content_length = asset.size_bytes
        response.set_etag(sha256)
        response.headers["Content-Disposition"] = f'attachment; filename="{sha256}"'
        response.headers["X-Content-Type-Options"] = "nosniff"
        try:
            response.make_conditional(request, _wants_part(asset.size_bytes), asset.size_bytes)
        except Exception:
            file.close()
            raise
        response.accept_ranges = "bytes"
        wrap = request.environ.get("wsgi.file_wrapper")
        if wrap and isinstance(file, BufferedReader) and response.status_code in (200, 206):
            # The server sends the file by itself, as far as Content-Length says: whoever takes
            # long to receive it keeps no thread.
            file.seek(response.content_range.start or 0)
            response.response = wrap(file, SENT_AT_ONCE)
        return response

    @blueprint.response(204)
    def delete(self, sha256: str) -> None:
        """Give up one's hold of a file; it is deleted with its last hold.

        The last one is kept as long as a container or a benchmark names the file.
        """
        release(_find(sha256).sha256, g.caller.id)


def _find(sha256: str) -> Asset:
    asset = db.session.get(Asset, sha256) if re.fullmatch("[0-9a-f]{64}", sha256) else None
    if asset is None:
        abort(404, "Not found.")
    return asset


def _wants_part(size_bytes: int) -> bool:
    """Whether one range of bytes is asked for; for all else there is the whole file (RFC 9110)."""
    asked = request.range
    if asked is None or asked.units != "bytes" or len(asked.ranges) != 1:
        return False
    # More last bytes than there are is the whole file, too.
    return bool(asked.ranges[0][0] >= -size_bytes)
