"""What is wrong with an installation, and how to mend it."""

import os
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flask import current_app
from marshmallow import ValidationError
from marshmallow.fields import String
from sqlalchemy import JSON, Connection, Text, cast, func, or_, select, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from medperf_server.assets import NotStored, Store, store
from medperf_server.assets.local import LocalStore
from medperf_server.backup.archive import digest_of
from medperf_server.backup.base import assets_in
from medperf_server.base import db
from medperf_server.changes import link
from medperf_server.config import MAX_JSON_BYTES
from medperf_server.database import migration_trouble
from medperf_server.disk import ground
from medperf_server.kinds import KINDS
from medperf_server.kinds.user.table import User
from medperf_server.models import Asset, AssetHolder, Change, ChangeCounter
from medperf_server.notices.state import mail_findings
from medperf_server.schemas import json_bytes

LEAST_FREE_BYTES = 1 << 30
MOST_NAMED = 10


@dataclass(frozen=True)
class Finding:
    """What was looked at; `trouble` says what is wrong and how to mend it, empty if nothing is."""

    what: str
    trouble: str = ""


def check(deep: bool = False) -> Iterator[Finding]:
    """Look at the running application's database and files; with `deep` read every file."""
    try:
        with db.engine.connect() as connection:
            yield Finding("the database answers")
            trouble = migration_trouble(connection, current_app._get_current_object())  # type: ignore[attr-defined]
            yield Finding("it is at the newest revision", f"it {trouble}" if trouble else "")
            if trouble:
                return
            sqlite = connection.dialect.name == "sqlite"
            yield from (_sqlite if sqlite else _postgresql)(connection)
            yield from _contents(connection)
            assets = assets_in(connection)
    except SQLAlchemyError as error:
        cause = str(getattr(error, "orig", None) or error).strip()
        yield Finding("the database answers", f"{cause}: look at MEDPERF_DATABASE_URL")
        return
    yield from _files(assets, deep)
    with Session(db.engine) as session:
        yield from (Finding(*found) for found in mail_findings(session))


def _sqlite(connection: Connection) -> Iterator[Finding]:
    answer = connection.execute(text("PRAGMA integrity_check(1)")).scalar()
    damaged = f"{answer}: restore a backup" if answer != "ok" else ""
    yield Finding("the database's file is sound", damaged)
    broken = connection.execute(text("PRAGMA foreign_key_check")).first()
    yield Finding(
        "references lead to what is there",
        f"table {broken[0]} has rows that refer to none: restore a backup" if broken else "",
    )
    mode = connection.execute(text("PRAGMA journal_mode")).scalar()
    slow = f"it is {mode}: is the file on a network file system? Move it" if mode != "wal" else ""
    yield Finding("its journal is WAL", slow)
    path = Path(connection.engine.url.database or "")
    yield _private(path)
    yield _writable(path.parent)
    yield _room(path.parent)


def _postgresql(connection: Connection) -> Iterator[Finding]:
    reads = connection.execute(text("SHOW transaction_read_only")).scalar() == "on"
    yield Finding("the database takes writes", "it is read-only: is it a standby?" if reads else "")


def _private(path: Path) -> Finding:
    others = stat.S_IMODE(path.stat().st_mode) & 0o077
    parents = stat.S_IMODE(path.parent.stat().st_mode) & 0o077
    open_to = f"others may read {path}: chmod 600 {path}" if others and parents else ""
    return Finding(f"only its owner may read {path}", open_to)


def _writable(folder: Path) -> Finding:
    closed = not os.access(folder, os.W_OK | os.X_OK)
    mend = "this user may not write there: chown it, or run this as who serves the registry"
    return Finding(f"{folder} can be written to", mend if closed else "")


def _room(folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free
    trouble = f"{free >> 20} MiB are left: make room" if free < LEAST_FREE_BYTES else ""
    return Finding(f"there is room in {folder}", trouble)


def _contents(connection: Connection) -> Iterator[Finding]:
    counter = connection.scalar(select(ChangeCounter.value)) or 0
    newest = connection.scalar(select(func.max(Change.cursor))) or 0
    behind = f"it says {counter}, and the log is at {newest}: restore a backup"
    yield Finding("the change counter keeps up with its log", behind if counter < newest else "")
    yield Finding("the change log is as it was written", _rewritten(connection))
    admins = select(func.count(User.id)).where(User.is_admin, User.is_active)
    nobody = "nobody is: medperf-server user add EMAIL --admin"
    yield Finding("somebody is an administrator", "" if connection.scalar(admins) else nobody)
    with Session(connection) as session:
        for kind in KINDS:
            if checks := kind.part("checks"):
                yield from checks.findings(session)
    held = select(AssetHolder.sha256).where(AssetHolder.sha256 == Asset.sha256).exists()
    orphans = connection.scalars(select(Asset.sha256).where(~held).order_by(Asset.sha256)).all()
    mend = "a member who uploads them holds them"
    yield Finding(
        "members hold each file", f"nobody holds {', '.join(orphans)}: {mend}" if orphans else ""
    )
    # Of before there was a bound: it stays, and pages with it are short.
    what = f"entities with metadata of more than {MAX_JSON_BYTES} bytes"
    yield _counted(what, list(_large(connection)))
    # They stay, too: where MedPerf's clients cannot read one, they can read none.
    yield _counted("values that would be refused by now", list(_refused(connection)))


def _counted(what: str, found: list[str]) -> Finding:
    """How much there is of something, and where."""
    named = ", ".join(found[:MOST_NAMED]) + (", ..." if len(found) > MOST_NAMED else "")
    return Finding(f"{what}: {len(found)}" + (f" ({named})" if found else ""))


def _rewritten(connection: Connection) -> str:
    """Which row of the change log is not what its digest says; empty if there is none."""
    digest, head = connection.execute(select(ChangeCounter.genesis, ChangeCounter.digest)).one()
    rows = select(Change.__table__).order_by(Change.cursor).execution_options(yield_per=1000)
    for row in connection.execute(rows).mappings():
        digest = link(digest, row)
        if digest != row["digest"]:
            return f"row {row['cursor']} does not follow from the one before: restore a backup"
    return "" if digest == head else "rows are missing at its end: restore a backup"


def uids(entities: Iterable[Any]) -> str:
    """The UIDs of entities, in words."""
    return ", ".join(str(one.id) for one in entities)


def _large(connection: Connection) -> Iterator[str]:
    """The entities with more JSON in a field than is taken by now, each by its type and UID."""
    for kind in KINDS:
        table: Any = kind.table
        columns = [one for one in table.__table__.columns if isinstance(one.type, JSON)]
        if not columns:
            continue
        # What is stored has spaces that compact JSON has not.
        longer = (func.length(cast(column, Text)) > MAX_JSON_BYTES for column in columns)
        for uid in connection.scalars(select(table.id).where(or_(*longer))).all():
            values = connection.execute(select(*columns).where(table.id == uid)).one()
            if any(json_bytes(value) > MAX_JSON_BYTES for value in values):
                yield f"{kind.title} {uid}"


def _refused(connection: Connection) -> Iterator[str]:
    """The values that no entity may have by now, each as `<field> of <kind> <UID>`."""
    for kind in KINDS:
        columns = kind.table.__table__.columns
        texts = {name: one for name, one in kind.schema.fields.items() if isinstance(one, String)}
        found = {name: one for name, one in texts.items() if not one.dump_only and name in columns}
        rows = select(columns.id, *(columns[name] for name in found)).order_by(columns.id)
        for row in connection.execute(rows.execution_options(yield_per=1000)):
            for (name, field), value in zip(found.items(), row[1:], strict=True):
                if not _is_taken(field, value):
                    yield f"{name} of {kind.title} {row.id}"


def _is_taken(field: String, value: str) -> bool:
    try:
        field.deserialize(value)
    except ValidationError:
        return False
    return True


def _files(assets: dict[str, int], deep: bool) -> Iterator[Finding]:
    files = store()
    try:
        stored = set(files)
    except OSError as error:
        yield Finding("the store of files answers", f"{error}: look at MEDPERF_ASSETS")
        return
    yield Finding("the store of files answers")
    if isinstance(files, LocalStore):
        yield _writable(files.ground)
        yield _room(files.ground)
    else:
        yield _takes_files(files)
    staging = ground(Path(current_app.config["STAGING"]))
    if not isinstance(files, LocalStore) or staging != files.ground:
        yield _writable(staging)
        yield _room(staging)
    lost = sorted(sha for sha, size in assets.items() if not _sound(sha, size, deep))
    yield Finding(
        f"each of {len(assets)} files is there" + (", byte for byte" if deep else ""),
        f"lost or damaged: {', '.join(lost)}: restore a backup, or have them uploaded again"
        if lost
        else "",
    )
    # What a server that died, or a restore, left: it only takes room.
    yield Finding(f"files that the database does not know: {len(stored - assets.keys())}")


def _takes_files(files: Store) -> Finding:
    """Whether a bucket may be written to: only writing tells."""
    upload, trouble = secrets.token_hex(16), ""
    try:
        files.write_piece(upload, "check", memoryview(b"check"))
        files.discard(upload)
    except OSError as error:
        trouble = f"{error}: look at what its credentials allow"
    return Finding("the store of files takes files", trouble)


def _sound(digest: str, size: int, deep: bool) -> bool:
    try:
        with store().open(digest) as file:
            if not deep:
                return file.seek(0, os.SEEK_END) == size
            return digest_of(file) == digest
    except (NotStored, OSError):
        return False
