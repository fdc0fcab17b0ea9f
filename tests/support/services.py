"""Services that a machine may lack: a test skips then, or fails where they are required."""

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest
import requests
from scripts.ports import own_port

# How the answer of a process ends that is killed before it, or in the middle of it.
BROKEN = (requests.ConnectionError, requests.exceptions.ChunkedEncodingError)


def require(service: str, available: bool, reason: str) -> None:
    """Skip the test unless the service is available; fail if MEDPERF_TEST_REQUIRE names it."""
    if available:
        return
    required = os.environ.get("MEDPERF_TEST_REQUIRE", "").split(",")
    if service in map(str.strip, required):
        pytest.fail(f"{service} is required here (MEDPERF_TEST_REQUIRE): {reason}", pytrace=False)
    pytest.skip(f"needs {service}: {reason}")


def _postgres_programs() -> Path | None:
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), reverse=True)
    found = str(versions[0]) if versions else shutil.which("initdb")
    return Path(found).parent if found else None


def _has_user(name: str) -> bool:
    return any(entry.pw_name == name for entry in pwd.getpwall())


class PostgresCluster:
    """A private PostgreSQL server, which hands out fresh databases."""

    def __init__(self, programs: Path, folder: Path, fsync: bool = False) -> None:
        self.programs, self.folder = programs, folder
        self.fsync = "on" if fsync else "off"
        self.port = own_port()

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self.programs / program), *arguments]
        # PostgreSQL refuses to run as root.
        user = "postgres" if os.geteuid() == 0 else None
        done = subprocess.run(
            command,
            cwd=self.folder,
            user=user,
            group=user,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr or done.stdout}"

    @contextmanager
    def running(self) -> Iterator["PostgresCluster"]:
        """The server, from its first start to its end."""
        data = str(self.folder / "data")
        if os.geteuid() == 0:
            shutil.chown(self.folder, "postgres", "postgres")
        self._run("initdb", "-D", data, "-U", "registry", "-A", "trust", "--no-sync")
        options = (
            f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1 -c fsync={self.fsync}"
        )
        log = str(self.folder / "log")
        self._run("pg_ctl", "-D", data, "-l", log, "-o", options, "-w", "start")
        try:
            yield self
        finally:
            self._run("pg_ctl", "-D", data, "-m", "immediate", "stop")

    def new_database(self, *options: str) -> str:
        """The SQLAlchemy URL of an empty database; `options` are those of createdb."""
        name = f"registry_{uuid4().hex}"
        address = ("-h", "127.0.0.1", "-p", str(self.port), "-U", "registry")
        self._run("createdb", *address, *options, name)
        return f"postgresql+psycopg://registry@127.0.0.1:{self.port}/{name}"


@contextmanager
def postgres_cluster(folder: Path, fsync: bool = False) -> Iterator[PostgresCluster]:
    """A running cluster in `folder`; skips or fails by the rule of `require` without one.

    With `fsync` its data survive a power cut.
    """
    programs = _postgres_programs()
    require("postgres", programs is not None, "initdb is not installed")
    assert programs is not None
    if os.geteuid() == 0:
        require("postgres", _has_user("postgres"), "it refuses root, and has no user of its own")
    with PostgresCluster(programs, folder, fsync).running() as cluster:
        yield cluster
