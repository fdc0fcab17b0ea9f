"""The database under the models: how SQLite is set up, and which migrations have run."""

import sqlite3
from typing import Any

from flask import Flask, request
from flask_migrate import Migrate, upgrade
from sqlalchemy import Connection, Engine, event

from medperf_server.models import db

BUSY_TIMEOUT_MS = 30_000


class NotInitialised(RuntimeError):
    """The database is not at the newest migration."""


def init_app(app: Flask) -> None:
    """Bind the models and their migrations to the application."""
    db.init_app(app)
    Migrate(app, db, directory=f"{app.root_path}/migrations")
    with app.app_context():
        if db.engine.dialect.name == "sqlite":
            _set_up_sqlite(db.engine)


def _set_up_sqlite(engine: Engine) -> None:
    """WAL, foreign keys, patience; and writers that take the write lock before they read.

    sqlite3's own transaction control is off (SQLAlchemy's documented recipe): a transaction that
    reads first and then writes could otherwise fail at once with "database is locked".
    """

    @event.listens_for(engine, "connect")
    def set_up(connection: sqlite3.Connection, _: Any) -> None:
        connection.isolation_level = None
        for pragma in (f"busy_timeout={BUSY_TIMEOUT_MS}", "journal_mode=WAL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        reading = bool(request) and request.method in ("GET", "HEAD")
        connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


def migrate(app: Flask) -> None:
    """Bring the database to the newest revision; harmless where it is there already."""
    with app.app_context():
        upgrade()


def require_migrated(app: Flask) -> None:
    """Raise `NotInitialised` unless the database is at the newest revision."""
    from alembic.migration import MigrationContext
    from alembic.script import ScriptDirectory

    with app.app_context():
        with db.engine.connect() as connection:
            current = MigrationContext.configure(connection).get_current_revision()
        db.engine.dispose()  # A server that forks must not share this connection.
        config = app.extensions["migrate"].migrate.get_config()
        if current != ScriptDirectory.from_config(config).get_current_head():
            state = "not initialised" if current is None else f"at an older revision, {current}"
            raise NotInitialised(
                f"The database {db.engine.url.render_as_string()} is {state}: "
                "run medperf-server init"
            )
