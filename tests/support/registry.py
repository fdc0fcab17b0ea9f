"""A real registry in a process of its own, on a database of its own."""

import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timezone
from functools import cache, cached_property
from pathlib import Path
from secrets import token_hex
from typing import Any

from click.testing import CliRunner, Result
from scripts.ports import own_port

from tests.support import forks

# The tests of all members come from one address, and in a hurry.
UNLIMITED = {
    "MEDPERF_RATE_LIMIT": "1000000/minute",
    "MEDPERF_FAILED_SIGN_INS": "1000000/minute",
}


def copy_database(source: Path, target: Path) -> None:
    """Make a SQLite database, which may be in use, what another one is."""
    with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(target)) as new:
        old.backup(new)


@cache
def _initialised() -> bytes:
    """What `medperf-server init` makes of no database, on SQLite."""
    with tempfile.TemporaryDirectory() as folder:
        registry = Registry(Path(folder))
        registry.command("init")
        assert sorted(os.listdir(folder)) == ["registry.db"]
        return registry.file.read_bytes()


class Registry:
    """`medperf-server run` on a loopback port that stays the same over stops and starts."""

    # The module that is run as `medperf-server`, and how.
    program = "medperf_server.cli"
    popen: type[subprocess.Popen[str]] = forks.Popen

    def __init__(self, folder: Path, database_url: str | None = None, **settings: str) -> None:
        """With environment variables of its own as `settings`."""
        folder.mkdir(parents=True, exist_ok=True)
        self.settings = {**UNLIMITED, **settings}
        self.folder = folder
        self.database_url = database_url or f"sqlite:///{self.file}"
        self.port = 0
        self._process: subprocess.Popen[str] | None = None
        self._tokens: dict[str, str] = {}

    @classmethod
    def serving(
        cls, folder: Path, database_url: str | None = None, **settings: str
    ) -> Iterator["Registry"]:
        """A registry on a new database (SQLite in `folder` unless a URL is given), as a fixture."""
        registry = cls(folder, database_url, **settings)
        registry.initialise()
        registry.start()
        yield registry
        registry.stop()

    def copied(self, folder: Path) -> "Registry":
        """A registry, not serving yet, on a copy of this one's SQLite database, for its port."""
        other = Registry(folder, **self.settings)
        copy_database(self.file, other.file)
        other.port, other._tokens = self.port, dict(self._tokens)
        return other

    @property
    def file(self) -> Path:
        """Its database, if that is on SQLite and nobody said where."""
        return self.folder / "registry.db"

    @property
    def url(self) -> str:
        """Where it listens, without the API's path."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The process that serves."""
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> Path:
        """What the server wrote on stderr: a JSON line a request."""
        return self.folder / "registry.log"

    @property
    def environment(self) -> dict[str, str]:
        """The environment in which Python finds the product and the product its database."""
        own = {**self.settings, "MEDPERF_DATABASE_URL": self.database_url}
        return {**forks.ordinary(), **own}

    def invoke(self, *arguments: str) -> Result:
        """Run a `medperf-server` command, in this process, on this registry's database."""
        from medperf_server.cli import main

        environment = {**self.settings, "MEDPERF_DATABASE_URL": self.database_url}
        return CliRunner(env=environment).invoke(main, arguments, prog_name="medperf-server")

    def command(self, *arguments: str) -> str:
        """The stdout of a `medperf-server` command that must succeed."""
        done = self.invoke(*arguments)
        assert done.exit_code == 0, f"medperf-server {' '.join(arguments)}: {done.stderr}"
        return done.stdout

    def initialise(self) -> None:
        """Make its database, as `medperf-server init` does: on SQLite a copy of one that it made.

        What `init` draws is drawn anew; tests/server/test_migrations.py says if that is all of it.
        """
        if self.database_url != f"sqlite:///{self.file}":
            self.command("init")
            return
        content, past, now = _initialised(), token_hex(32), datetime.now(timezone.utc)
        with open(os.open(self.file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
        with closing(sqlite3.connect(self.file)) as connection, connection:
            connection.execute("PRAGMA synchronous=OFF")
            connection.execute("UPDATE change_counter SET genesis = ?, digest = ?", (past, past))
            connection.execute(
                "UPDATE link_secret SET secret = ?, renewed_at = ?",
                (token_hex(32), now.strftime("%Y-%m-%d %H:%M:%S.%f")),
            )
            connection.execute("UPDATE calendar SET date = ?", (now.date().toordinal(),))

    def restore(self, backup: Path) -> None:
        """Put a backup back, as the manual says: nobody has the database open meanwhile."""
        from medperf_server.models import db

        self.stop()
        with self.app.app_context():
            db.session.remove()
            db.engine.dispose()
        self.command("restore", str(backup), "--replace")
        self.start()

    @cached_property
    def app(self) -> Any:
        """The application on this registry's database, to look behind the API."""
        from medperf_server.app import create_app

        return create_app(self.database_url)

    def token_for(self, email: str, admin: bool = False) -> str:
        """The token of a member, who joins with the first call."""
        if email not in self._tokens:
            from medperf_server.auth import add_user, issue_token
            from medperf_server.models import db

            with self.app.app_context():
                _, self._tokens[email] = issue_token(add_user(email, is_admin=admin).id)
                db.session.commit()
        return self._tokens[email]

    def start(self) -> None:
        """Serve, on the same port as before if it has served before; returns when it listens."""
        self.port = self.port or own_port()
        with self.log.open("a") as log:
            self._process = self.popen(
                [sys.executable, "-u", "-m", self.program, "run", "--port", str(self.port)],
                env=self.environment,
                cwd=self.folder,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line.startswith("Listening on "), self.log.read_text()

    def stop(self, with_signal: int = signal.SIGTERM) -> None:
        """Stop serving; the database and the port's number stay for the next `start`."""
        if self._process is None:
            return
        self._process.send_signal(with_signal)
        self._process.wait(timeout=30)
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._process = None
