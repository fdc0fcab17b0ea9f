"""Backups: all that a registry keeps, in one file; made while it serves, and put back whole."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from flask import current_app
from sqlalchemy import delete, text

from medperf_server.assets import NotStored, Store, store
from medperf_server.backup.archive import (
    DATABASE,
    FILES,
    Damaged,
    Manifest,
    Progress,
    Reader,
    Writer,
    digest_of,
    opened,
)
from medperf_server.backup.base import Database, Refused
from medperf_server.backup.postgresql import PostgresqlDatabase
from medperf_server.backup.sqlite import SqliteDatabase
from medperf_server.base import db, utc_now
from medperf_server.database import current_revision, migrate, revisions
from medperf_server.disk import settle
from medperf_server.models import Asset, Upload
from medperf_server.notices.restoring import tell_of_restore

__all__ = ["Damaged", "Manifest", "Refused", "back_up", "restore"]

# More than anyone can have been given since the backup.
SKIPPED_IDS = 1000
# No engine takes any number of values in a statement.
GONE_AT_ONCE = 1000
DATABASES: dict[str, type[Database]] = {
    kind.engine_name: kind for kind in (SqliteDatabase, PostgresqlDatabase)
}


def _database() -> Database:
    return DATABASES[db.engine.dialect.name](db.engine)


def back_up(target: Path, progress: Progress) -> Manifest:
    """Write the running application's database and files to a file, which must be new.

    It is of mode 0600, and there whole or not at all; others may write meanwhile. Raises `Refused`,
    and `OSError` if there is no room. What the store has lost is named in the manifest.
    """
    if target.exists():
        raise Refused(f"{target} is there already: choose another name")
    with TemporaryDirectory(prefix=".backup-", dir=target.parent) as folder:
        copy, unfinished = Path(folder) / DATABASE, Path(folder) / "backup"
        database = _database()
        with db.engine.connect() as connection:
            revision = current_revision(connection) or ""
        assets = database.snapshot(copy)
        manifest = Manifest(database.engine_name, revision, utc_now().isoformat(timespec="seconds"))
        with open(unfinished, "xb", opener=partial(os.open, mode=0o600)) as file:
            writer = Writer(file, manifest, progress)
            with copy.open("rb") as source:
                writer.add(DATABASE, source, copy.stat().st_size)
            for sha256, size in sorted(assets.items()):
                _add_file(writer, manifest, sha256, size)
            writer.finish()
            file.flush()
            os.fsync(file.fileno())
        unfinished.rename(target)
        settle(target.parent)
    return manifest


def _add_file(writer: Writer, manifest: Manifest, sha256: str, size: int) -> None:
    try:
        with store().open(sha256) as source:
            writer.add(FILES + sha256, source, size, sha256)
    except (NotStored, Damaged):
        named = db.session.get(Asset, sha256) is not None
        db.session.rollback()
        (manifest.lost if named else manifest.gone).append(sha256)


def restore(
    source: Path, replace: bool, progress: Progress, tell: Callable[[str], None]
) -> Manifest:
    """Make the running application's installation the registry of a backup.

    The backup is checked whole, then its files are stored beside those that are there, and last its
    database, migrated, takes the place of the one that is here. Raises `Damaged`; `Refused` if it
    is another engine's or a newer version's, if a registry is here and `replace` is not given, or
    while others have it open. The database is then as it was.
    """
    database = _database()
    with opened(source, progress) as backup, TemporaryDirectory() as folder:
        manifest, copy = backup.manifest, Path(folder) / DATABASE
        _require_fit(manifest, database, replace)
        backup.copy(DATABASE, copy)
        database.check(copy)
        _store_files(store(), backup)
        kept = database.place(copy, partial(_prepare, manifest))
    db.engine.dispose()
    if kept:
        tell(f"What was here is kept: {kept}")
    return manifest


def _require_fit(manifest: Manifest, database: Database, replace: bool) -> None:
    if manifest.engine != database.engine_name:
        raise Refused(f"It is of {manifest.engine}, and this registry's is {database.engine_name}")
    if manifest.revision not in revisions(current_app):  # type: ignore[arg-type]
        raise Refused(f"A newer version made it, revision {manifest.revision}: install that first")
    if not replace and not database.is_empty():
        raise Refused("There is a registry here already: give --replace to put it aside")
    database.require_idle()


def _store_files(files: Store, backup: Reader) -> None:
    for sha256 in backup.manifest.stored:
        if _is_sound(files, sha256):
            continue
        files.remove(sha256)
        if (found := files.add(backup.open(FILES + sha256))) != sha256:
            files.remove(found)
            raise Damaged(f"{FILES}{sha256} changed while it was read")


def _is_sound(files: Store, sha256: str) -> bool:
    try:
        with files.open(sha256) as file:
            return digest_of(file) == sha256
    except NotStored:
        return False


def _prepare(manifest: Manifest, url: str) -> None:
    """Bring a copy to the newest revision, and have it agree with what happened since."""
    from medperf_server.app import create_app

    app = create_app(url)
    migrate(app)
    with app.app_context():
        for start in range(0, len(manifest.gone), GONE_AT_ONCE):
            some = manifest.gone[start : start + GONE_AT_ONCE]
            db.session.execute(delete(Asset).where(Asset.sha256.in_(some)))
        # Their pieces are not in the backup.
        db.session.execute(delete(Upload))
        _skip_ids()
        tell_of_restore(db.session(), manifest.created_at)
        db.session.commit()
        db.session.remove()
        db.engine.dispose()


def _skip_ids() -> None:
    """Leave out the IDs that may have been given since: at a site they mean something else."""
    sqlite = db.engine.dialect.name == "sqlite"
    for table in db.metadata.sorted_tables:
        if not table.dialect_options["sqlite"]["autoincrement"]:
            continue
        name = table.name
        if sqlite:
            # Our own tables' names: nothing of a user's.
            known = f"SELECT 1 FROM sqlite_sequence WHERE name = '{name}'"  # nosec B608
            start = f"INSERT INTO sqlite_sequence SELECT '{name}', 0"  # nosec B608
            move = f"UPDATE sqlite_sequence SET seq = seq + {SKIPPED_IDS}"  # nosec B608
            statements = [f"{start} WHERE NOT EXISTS ({known})", f"{move} WHERE name = '{name}'"]
        else:
            moved = f"SELECT setval(s::regclass, nextval(s::regclass) + {SKIPPED_IDS})"
            statements = [f"{moved} FROM pg_get_serial_sequence('{name}', 'id') s"]  # nosec B608
        for statement in statements:
            db.session.execute(text(statement))
