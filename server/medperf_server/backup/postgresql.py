"""Copies of a database on PostgreSQL, made and taken with its own `pg_dump` and `pg_restore`."""

import os
import shutil
import subprocess
from pathlib import Path

from sqlalchemy import Connection, text

from medperf_server.backup.archive import Damaged
from medperf_server.backup.base import Database, Prepare, Refused, assets_in
from medperf_server.base import utc_now

OTHERS = """SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
AND backend_type = 'client backend'"""


class PostgresqlDatabase(Database):
    """A database on a server; what was there before a copy took its place is in a schema."""

    engine_name = "postgresql"

    def snapshot(self, target: Path) -> dict[str, int]:
        """See `Database`."""
        with self._engine.connect().execution_options(
            isolation_level="REPEATABLE READ"
        ) as connection:
            seen = connection.scalar(text("SELECT pg_export_snapshot()"))
            found = assets_in(connection)
            # Not what an earlier restore put aside.
            options = ("--format=custom", "--schema=public", f"--snapshot={seen}")
            self._run("pg_dump", *options, f"--dbname={self._address}", f"--file={target}")
        return found

    def check(self, copy: Path) -> None:
        """See `Database`."""
        done = subprocess.run(
            [_program("pg_restore"), "--list", str(copy)], capture_output=True, text=True
        )
        if done.returncode or "alembic_version" not in done.stdout:
            raise Damaged(f"its database cannot be read: {done.stderr.strip() or 'no registry'}")

    def require_idle(self) -> None:
        """See `Database`."""
        self._engine.dispose()
        with self._engine.connect() as connection:
            others = connection.scalar(text(OTHERS))
        self._engine.dispose()
        if others:
            raise Refused(f"{others} others have the database open: stop the registry first")

    def place(self, copy: Path, prepare: Prepare) -> str | None:
        """See `Database`."""
        was_empty, kept = self.is_empty(), f"replaced_{utc_now():%Y%m%dt%H%M%S}"
        self.require_idle()
        with self._engine.begin() as connection:
            _execute(connection, f"ALTER SCHEMA public RENAME TO {kept}", "CREATE SCHEMA public")
        try:
            options = ("--single-transaction", "--no-owner", "--no-acl", "--schema=public")
            self._run("pg_restore", "--exit-on-error", *options, f"--dbname={self._address}", copy)
            prepare(self._engine.url.render_as_string(hide_password=False))
        except BaseException:
            self._engine.dispose()
            with self._engine.begin() as connection:
                back = f"ALTER SCHEMA {kept} RENAME TO public"
                _execute(connection, "DROP SCHEMA public CASCADE", back)
            raise
        if not was_empty:
            return f"schema {kept}"
        with self._engine.begin() as connection:
            _execute(connection, f"DROP SCHEMA {kept} CASCADE")
        return None

    @property
    def _address(self) -> str:
        """The URL with its options, such as sslmode, and without the password."""
        address = self._engine.url.set(drivername="postgresql", password=None)
        return address.render_as_string(hide_password=False)

    def _run(self, program: str, *arguments: str | Path) -> None:
        """Run a program of PostgreSQL's on this database. Raises `Refused` with its own words."""
        # In the environment, where other users do not see it.
        password = self._engine.url.password
        given = {"PGPASSWORD": password} if password else {}
        command = [_program(program), "--no-password", *map(str, arguments)]
        done = subprocess.run(
            command, env={**os.environ, **given}, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise Refused(f"{program} failed: {done.stderr.strip()}")


def _execute(connection: Connection, *statements: str) -> None:
    for statement in statements:
        connection.execute(text(statement))


def _program(name: str) -> str:
    """Where a program is, the newest there is. Raises `Refused` if it is nowhere."""
    versions = sorted(
        Path("/usr/lib/postgresql").glob(f"*/bin/{name}"),
        key=lambda path: float(path.parts[-3]),
        reverse=True,
    )
    found = str(versions[0]) if versions else shutil.which(name)
    if found is None:
        raise Refused(f"{name} is not installed: it comes with the package postgresql-client")
    return found
