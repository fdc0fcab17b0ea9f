"""Whether this process is alive (`/healthz`), and whether it can serve (`/readyz`).

Neither asks who wants to know, so neither says more than an operator needs for a first guess.
"""

import os
import time

from flask import Flask, Response, jsonify
from sqlalchemy.exc import SQLAlchemyError

from medperf_server.assets import store
from medperf_server.assets.local import LocalStore
from medperf_server.base import db
from medperf_server.database import migration_trouble
from medperf_server.logs import log_failure

# Whoever asks more often than this hears the same again: asking must cost nobody anything.
KEPT_SECONDS = 2
NO_FILE = "0" * 64


def init_app(app: Flask) -> None:
    """Answer both paths."""
    kept: tuple[float, list[str]] = (-KEPT_SECONDS, [])

    @app.get("/healthz")
    def healthz() -> Response:
        """200 from a process that answers at all."""
        return jsonify(status="ok")

    @app.get("/readyz")
    def readyz() -> tuple[Response, int]:
        """200, or 503 with what is missing."""
        nonlocal kept
        if time.monotonic() - kept[0] >= KEPT_SECONDS:
            kept = time.monotonic(), _missing(app)
        reasons = kept[1]
        if reasons:
            return jsonify(status="not ready", reasons=reasons), 503
        return jsonify(status="ready"), 200


def _missing(app: Flask) -> list[str]:
    return [reason for reason in (_database(app), _files()) if reason]


def _database(app: Flask) -> str | None:
    try:
        with db.engine.connect() as connection:
            trouble = migration_trouble(connection, app)
    except SQLAlchemyError as error:
        log_failure("readiness", error)
        return "the database does not answer"
    return trouble and f"the database {trouble}"


def _files() -> str | None:
    files = store()
    try:
        # Whether it is there does not matter, only that the store can say so.
        answers = NO_FILE not in files
    except OSError as error:
        log_failure("readiness", error)
        answers = False
    if answers and isinstance(files, LocalStore):
        answers = os.access(files.ground, os.W_OK | os.X_OK)
    return None if answers else "the store of files does not answer, or cannot be written to"
