"""The files that members keep in the registry: where they lie, who holds them, how they come in."""

from pathlib import Path

from flask import Flask, Response, current_app, jsonify

from medperf_server.assets.base import NotStored, Store, Unavailable
from medperf_server.assets.local import LocalStore
from medperf_server.assets.s3 import S3Store
from medperf_server.assets.turns import Turns
from medperf_server.base import db
from medperf_server.disk import is_full
from medperf_server.errors import NO_ROOM
from medperf_server.logs import log_failure

__all__ = ["NotStored", "Store", "Unavailable", "init_app", "store", "store_at", "unavailable"]

S3 = "s3://"
SWEEP_EVERY_SECONDS = 60.0


def store_at(place: str, endpoint: str | None = None) -> Store:
    """The store in a folder, or at `s3://bucket/prefix` of an S3 server; nothing is opened yet."""
    if place.startswith(S3):
        bucket, _, prefix = place.removeprefix(S3).partition("/")
        return S3Store(bucket, prefix.rstrip("/") + "/" if prefix else "", endpoint)
    return LocalStore(Path(place))


def init_app(app: Flask) -> None:
    """Give the application the store that its settings name, and turns at sweeping it."""
    app.extensions["assets"] = store_at(app.config["ASSETS"], app.config["S3_ENDPOINT"])
    app.extensions["sweeps"] = Turns(SWEEP_EVERY_SECONDS)


def store() -> Store:
    """The store of the running application."""
    found: Store = current_app.extensions["assets"]
    return found


def unavailable(error: OSError) -> tuple[Response, int, dict[str, str]]:
    """The answer while the store cannot be reached, or is full."""
    db.session.rollback()
    log_failure("assets", error)
    if is_full(error):
        return jsonify(detail=NO_ROOM), 507, {}
    return jsonify(detail="The store of files is not available"), 503, {"Retry-After": "5"}
