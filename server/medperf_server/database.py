"""The database under the models: how SQLite is set up, and which migrations have run."""

import os
import sqlite3
from typing import Any

from flask import Flask, request
from flask_migrate import Migrate, upgrade
from sqlalchemy import Connection, Engine, event, text

from medperf_server.base import db

BUSY_TIMEOUT_MS = 30_000


class NotInitialised(RuntimeError):
    """The database is not one that this version can serve."""


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
    """Bring the database to the newest revision; harmless where it is there already.

    Raises `NotInitialised` for a database that could not keep every text.
    """
    with app.app_context():
        if db.engine.dialect.name == "sqlite":
            # SQLite itself would let others read it.
            os.close(os.open(db.engine.url.database or "", os.O_RDWR | os.O_CREAT, 0o600))
        with db.engine.connect() as connection:
            _refuse(_encoding_trouble(connection))
        upgrade()


def current_revision(connection: Connection) -> str | None:
    """The revision that a database is at; None if it has none."""
    from alembic.migration import MigrationContext

    return MigrationContext.configure(connection).get_current_revision()


def revisions(app: Flask) -> list[str]:
    """Every revision that this version knows, the newest first."""
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory.from_config(app.extensions["migrate"].migrate.get_config())
    return [script.revision for script in scripts.walk_revisions()]


def migration_trouble(connection: Connection, app: Flask) -> str | None:
    """What keeps this version from serving the database, and what to do; None if nothing does."""
    if trouble := _encoding_trouble(connection):
        return trouble
    current, known = current_revision(connection), revisions(app)
    if current == known[0]:
        return None
    if current is None:
        return "is not initialised: run medperf-server init"
    if current in known:
        return f"is at an older revision, {current}: run medperf-server init"
    return f"was made by another version, its revision is {current}: run a newer medperf-server"


def _encoding_trouble(connection: Connection) -> str | None:
    if connection.dialect.name == "sqlite":
        return None
    encoding = connection.scalar(text("SHOW server_encoding"))
    if encoding == "UTF8":
        return None
    return f"has encoding {encoding}: make one with createdb --encoding=UTF8 --template=template0"


def _refuse(trouble: str | None) -> None:
    if trouble:
        raise NotInitialised(f"The database {db.engine.url.render_as_string()} {trouble}")


def require_migrated(app: Flask) -> None:
    """Raise `NotInitialised` unless the database is at the newest revision."""
    with app.app_context():
        with db.engine.connect() as connection:
            trouble = migration_trouble(connection, app)
        db.engine.dispose()  # A server that forks must not share this connection.
        _refuse(trouble)
