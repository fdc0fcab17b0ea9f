"""Refusals in MedPerf's form: 400 `{field: [messages]}`, the rest `{"detail": ...}`."""

from typing import Any

from flask import Flask, Response, g, jsonify
from marshmallow import ValidationError
from sqlalchemy.exc import DataError, IntegrityError, OperationalError
from werkzeug.exceptions import HTTPException

from medperf_server.base import db
from medperf_server.config import MAX_BODY_BYTES
from medperf_server.logs import log_failure

CONFLICT = (
    "The registry refused this: another entity has the same unique values, "
    "or something still refers to this one"
)

NO_ROOM = (
    "The registry's disk is full, and nothing of this was kept: "
    "tell its administrator, and send it again once there is room"
)


def field_errors(messages: Any) -> dict[str, Any]:
    """Webargs' messages by location, marshmallow's by field, as one flat mapping."""
    if not isinstance(messages, dict):
        return {"non_field_errors": messages if isinstance(messages, list) else [str(messages)]}
    flat: dict[str, Any] = {}
    for key, value in messages.items():
        if key in ("json", "query") and isinstance(value, dict):
            flat.update(field_errors(value))
        else:
            name = "non_field_errors" if key in ("_schema", "json", "query") else str(key)
            flat[name] = value
    return flat


def handle_http_exception(error: HTTPException) -> Any:
    """The answer to an HTTP error that was raised anywhere; flask-smorest calls this too."""
    if error.response is not None:
        return error.response
    code = error.code or 500
    data = getattr(error, "data", None) or {}
    if "messages" in data:
        body = field_errors(data["messages"])
    elif code == 400:
        body = {"non_field_errors": [error.description]}
    elif code == 413:
        body = {"detail": f"The body is larger than {MAX_BODY_BYTES} bytes, the most that is taken"}
    else:
        body = {"detail": error.description}
    response: Response = jsonify(body)
    response.status_code = code
    for name, value in error.get_headers():
        if name.lower() not in ("content-type", "content-length"):
            response.headers[name] = value
    if code == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def _is_full(error: OperationalError) -> bool:
    """Whether the database has no room left: in SQLite's words, or by PostgreSQL's code."""
    code = getattr(error.orig, "sqlstate", None)
    return code == "53100" or "disk is full" in str(error.orig)


def init_app(app: Flask) -> None:
    """Handlers for what is not an HTTP error yet."""

    @app.errorhandler(ValidationError)
    def invalid(error: ValidationError) -> tuple[Response, int]:
        return jsonify(field_errors(error.messages)), 400

    @app.errorhandler(IntegrityError)
    def conflict(_: IntegrityError) -> tuple[Response, int]:
        db.session.rollback()
        return jsonify(non_field_errors=[CONFLICT]), 400

    @app.errorhandler(DataError)
    def unstorable(_: DataError) -> tuple[Response, int]:
        db.session.rollback()
        return jsonify(non_field_errors=["A value is out of the range that can be stored"]), 400

    @app.errorhandler(OperationalError)
    def busy(error: OperationalError) -> tuple[Response, int, dict[str, str]]:
        db.session.rollback()
        log_failure("database", error)
        if _is_full(error):
            return jsonify(detail=NO_ROOM), 507, {}
        return jsonify(detail="The database is not available"), 503, {"Retry-After": "5"}

    @app.errorhandler(Exception)
    def unexpected(error: Exception) -> tuple[Response, int]:
        db.session.rollback()
        log_failure("failure", error)
        return jsonify(detail=f"Internal error, request {g.request_id}"), 500
