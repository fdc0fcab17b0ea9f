"""Copies of a database on SQLite, made and taken with its own backup interface."""

import os
import shutil
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from sqlalchemy import create_engine

from medperf_server.backup.archive import Damaged
from medperf_server.backup.base import Database, Prepare, Refused, assets_in
from medperf_server.base import utc_now
from medperf_server.disk import settle

# What SQLite keeps beside a database's file while it is open.
BESIDE = ("-wal", "-shm", "-journal")


class SqliteDatabase(Database):
    """A database in a file."""

    engine_name = "sqlite"

    @property
    def path(self) -> Path:
        """The database's file."""
        return Path(self._engine.url.database or "")

    def snapshot(self, target: Path) -> dict[str, int]:
        """See `Database`."""
        with closing(_existing(self.path)) as source, closing(sqlite3.connect(target)) as copy:
            source.backup(copy)
            # The copy is one file: it has no log beside it.
            copy.execute("PRAGMA journal_mode=DELETE")
        engine = create_engine(f"sqlite:///{target}")
        with engine.connect() as connection:
            found = assets_in(connection)
        engine.dispose()
        return found

    def check(self, copy: Path) -> None:
        """See `Database`."""
        try:
            with closing(_existing(copy)) as connection:
                connection.execute("PRAGMA trusted_schema=OFF")
                (answer,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
                if answer != "ok":
                    raise Damaged(f"its database is damaged: {answer}")
                if connection.execute("PRAGMA foreign_key_check").fetchone():
                    raise Damaged("its database has rows that refer to none")
                connection.execute("SELECT version_num FROM alembic_version").fetchone()
        except sqlite3.Error as error:
            raise Damaged(f"its database cannot be read: {error}") from error

    def require_idle(self) -> None:
        """See `Database`."""
        self._engine.dispose()
        if not self.path.exists():
            return
        # That it is damaged may be why another takes its place.
        with suppress(sqlite3.DatabaseError), closing(_existing(self.path, 2)) as connection:
            try:
                # Only who is alone with a database can change its journal.
                connection.execute("PRAGMA journal_mode=DELETE")
            except sqlite3.OperationalError as error:
                if "locked" in str(error):
                    raise Refused(
                        f"A process has {self.path} open: stop the registry first"
                    ) from error

    def is_empty(self) -> bool:
        """See `Database`; what is no database is not empty."""
        if not self.path.exists() or not self.path.stat().st_size:
            return True
        try:
            with closing(_existing(self.path)) as connection:
                connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except sqlite3.DatabaseError:
            return False
        return super().is_empty()

    def place(self, copy: Path, prepare: Prepare) -> str | None:
        """See `Database`."""
        new = self.path.with_name(f".{self.path.name}.restored")
        kept = None
        try:
            shutil.copyfile(copy, new)
            new.chmod(0o600)
            prepare(f"sqlite:///{new}")
            with closing(_existing(new)) as connection:
                connection.execute("PRAGMA journal_mode=DELETE")
            settle(new)
            was_empty = self.is_empty()
            self.require_idle()
            kept = self._put_aside()
            os.replace(new, self.path)
        finally:
            for end in ("", *BESIDE):
                new.with_name(new.name + end).unlink(missing_ok=True)
        settle(self.path.parent)
        if kept and was_empty:
            kept.unlink()
            return None
        return str(kept) if kept else None

    def _put_aside(self) -> Path | None:
        """Give the database's file a second name, which it keeps."""
        if not self.path.exists():
            return None
        kept = self.path.with_name(f"{self.path.name}.replaced-{utc_now():%Y%m%dT%H%M%S}")
        # A log that is still here belongs to a damaged database.
        for end in BESIDE:
            with suppress(FileNotFoundError):
                os.rename(f"{self.path}{end}", f"{kept}{end}")
        os.link(self.path, kept)
        return kept


def _existing(path: Path, patience_seconds: float = 30) -> sqlite3.Connection:
    uri = path.absolute().as_uri() + "?mode=rw"
    return sqlite3.connect(uri, uri=True, timeout=patience_seconds)
