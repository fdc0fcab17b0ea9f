"""Sending files by the tus protocol, 1.0.0: https://tus.io/protocols/resumable-upload."""

import binascii
import re
from base64 import b64decode
from http import HTTPStatus
from typing import Any

from flask import Response, abort, g, make_response, request, url_for
from flask.views import MethodView
from marshmallow import ValidationError

from medperf_server.api.common import Blueprint
from medperf_server.assets import unavailable
from medperf_server.assets.holdings import quota_bytes, too_large
from medperf_server.assets.receiving import begin, discard, finish, receive
from medperf_server.base import db
from medperf_server.kinds.user.table import User
from medperf_server.models import Asset, Upload
from medperf_server.schemas import UploadSchema

blueprint = Blueprint("uploads", __name__, description="Files on their way in (tus 1.0.0)")

VERSION, EXTENSIONS = "1.0.0", "creation,termination"
PIECE_TYPE = "application/offset+octet-stream"
MOST_METADATA = 4096
blueprint.register_error_handler(OSError, unavailable)


def _header(name: str, description: str, form: str = "string") -> dict[str, Any]:
    # Not as required: the refusals of tus are not those that a client of OpenAPI expects then.
    return {"in": "header", "name": name, "description": description, "schema": {"type": form}}


TUS = _header("Tus-Resumable", f"{VERSION}; needed")
OFFSET = _header("Upload-Offset", "How many bytes are here; needed", "integer")
CREATION = [
    TUS,
    _header("Upload-Length", "The file's size in bytes; needed", "integer"),
    _header("Upload-Metadata", "`sha256`, a space, and the SHA-256's 64 digits in Base64; needed"),
]
ELSEWHERE, NO_VERSION, TOO_LONG, NO_PIECE = (
    blueprint.alt_response(status, HTTPStatus(status).name) for status in (409, 412, 413, 415)
)
PIECE = {"content": {PIECE_TYPE: {"schema": {"type": "string", "format": "binary"}}}}


@blueprint.before_request
def require_version() -> None:
    """Refuse (412) whoever speaks another version, or none."""
    if request.method != "OPTIONS" and request.headers.get("Tus-Resumable") != VERSION:
        abort(412, f"Tus-Resumable: {VERSION} is needed")


@blueprint.after_request
def tell_version(response: Response) -> Response:
    """Say which version this is."""
    response.headers["Tus-Resumable"] = VERSION
    if response.status_code == 412:
        response.headers["Tus-Version"] = VERSION
    return response


def _options() -> Response:
    response = make_response("", 204)
    response.headers["Tus-Version"], response.headers["Tus-Extension"] = VERSION, EXTENSIONS
    member = db.session.get_one(User, g.caller.id)
    response.headers["Tus-Max-Size"] = str(quota_bytes(member))
    return response


@blueprint.route("/assets/")
class CreationView(MethodView):
    """Where uploads begin."""

    @blueprint.response(204)
    def options(self) -> Response:
        """What of tus there is, and the caller's quota."""
        return _options()

    @blueprint.doc(parameters=CREATION)
    @blueprint.response(201, UploadSchema)
    @blueprint.alt_response(200, schema=UploadSchema, success=True)
    @NO_VERSION
    def post(self) -> tuple[dict[str, Any], int, dict[str, str]]:
        """Begin to send a file, or go on: `Location` is where to, `Upload-Offset` from where.

        If the registry has a file of this SHA-256 the caller holds it at once, and the answer is
        200 with its address. That gives nothing away: whoever is a member may read what they know
        the SHA-256 of, see GET.
        """
        sha256, size = _announced_sha256(), _number("Upload-Length")
        found = begin(g.caller.id, sha256, size, request.headers["Upload-Metadata"])
        answer = {"sha256": sha256, "size_bytes": size}
        if isinstance(found, Asset):
            url = url_for("assets.AssetView", sha256=sha256, _external=True)
            return {**answer, "url": url}, 200, {"Location": url}
        url = url_for("uploads.UploadView", uid=found.id, _external=True)
        answer |= {"upload": found.id, "offset_bytes": found.offset_bytes}
        return answer, 201, {"Location": url, "Upload-Offset": str(found.offset_bytes)}


@blueprint.route("/assets/uploads/<string(length=32):uid>/")
class UploadView(MethodView):
    """A file on its way in; for whoever began to send it."""

    @blueprint.response(204)
    def options(self, uid: str) -> Response:
        """What of tus there is, and the caller's quota."""
        return _options()

    @blueprint.doc(parameters=[TUS])
    @blueprint.response(200)
    @NO_VERSION
    def head(self, uid: str) -> Response:
        """How much of the file is here: `Upload-Offset` of `Upload-Length` bytes."""
        upload = _own(uid)
        response = make_response("")
        response.headers["Upload-Offset"] = str(upload.offset_bytes)
        response.headers["Upload-Length"] = str(upload.size_bytes)
        response.headers["Upload-Metadata"] = upload.metadata_header
        response.headers["Cache-Control"] = "no-store"
        return response

    @blueprint.doc(parameters=[TUS, OFFSET], requestBody=PIECE)
    @blueprint.response(204)
    @ELSEWHERE
    @NO_VERSION
    @TOO_LONG
    @NO_PIECE
    def patch(self, uid: str) -> Response:
        """Append to what is here. With the last byte the file is checked, and stored or discarded.

        Nothing, appended to what is complete, has it checked again if that was interrupted.
        """
        if request.mimetype != PIECE_TYPE:
            abort(415, f"Content-Type: {PIECE_TYPE} is needed")
        offset, upload = _number("Upload-Offset"), _own(uid)
        if offset != upload.offset_bytes:
            abort(409, f"The upload is at offset {upload.offset_bytes}, not {offset}")
        sha256, size = upload.sha256, upload.size_bytes
        # Nobody waits while the body comes.
        db.session.rollback()
        if (request.content_length or 0) > size - offset:
            too_large(f"{size - offset} bytes are missing, and {request.content_length} come")
        request.max_content_length = size - offset
        offset = receive(uid, offset, size, request.stream)
        if offset == size:
            finish(uid, g.caller.id, sha256, size)
        response = make_response("", 204)
        response.headers["Upload-Offset"] = str(offset)
        return response

    @blueprint.doc(parameters=[TUS])
    @blueprint.response(204)
    @NO_VERSION
    def delete(self, uid: str) -> None:
        """Give the upload up."""
        discard(_own(uid).id)

    @blueprint.doc(
        parameters=[TUS, _header("X-HTTP-Method-Override", "PATCH or DELETE; needed")],
        requestBody=PIECE,
    )
    @blueprint.response(204)
    @ELSEWHERE
    @NO_VERSION
    @NO_PIECE
    def post(self, uid: str) -> Any:
        """PATCH or DELETE, for those whose proxy lets neither pass."""
        method = request.headers.get("X-HTTP-Method-Override")
        if method not in ("PATCH", "DELETE"):
            raise ValidationError({"X-HTTP-Method-Override": ["PATCH or DELETE is needed"]})
        return self.patch(uid) if method == "PATCH" else self.delete(uid)


def _own(uid: str) -> Upload:
    upload = db.session.get(Upload, uid) if re.fullmatch("[0-9a-f]{32}", uid) else None
    if upload is None or upload.user_id != g.caller.id:
        abort(404, "Not found.")
    return upload


def _number(name: str) -> int:
    text = request.headers.get(name, "")
    if not re.fullmatch("[0-9]{1,15}", text):
        raise ValidationError({name: [f"{text!r} is no number of bytes"]})
    return int(text)


def _announced_sha256() -> str:
    """The SHA-256 that the file shall have: `Upload-Metadata: sha256 <Base64 of 64 digits>`."""
    header = request.headers.get("Upload-Metadata", "")
    pairs = (pair.strip().partition(" ") for pair in header.split(","))
    encoded = {key: value for key, _, value in pairs}.get("sha256", "")
    try:
        text = b64decode(encoded, validate=True).decode("ascii").lower()
    except (binascii.Error, UnicodeDecodeError):
        text = ""
    if len(header) > MOST_METADATA or not re.fullmatch("[0-9a-f]{64}", text):
        raise ValidationError(
            {
                "Upload-Metadata": [
                    "sha256, a space, and the SHA-256's 64 digits in Base64 are needed"
                ]
            }
        )
    return text
