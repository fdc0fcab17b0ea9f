"""A Slurm with an accounting, kept by a slurmdbd of its own in a MariaDB of its own."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from scripts.ports import own_port

from tests.support import slurm
from tests.support.services import require
from tests.support.slurm import PATH, Slurm, eventually

PROGRAMS = ("mariadbd", "mariadb-install-db", "my_print_defaults", "slurmdbd", "sacctmgr", "sacct")
CONF = """
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={port}
AccountingStoragePass={folder}/munge.socket
FirstJobId=1
"""
DAEMON_CONF = """
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
SlurmUser={user}
PidFile={folder}/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={database}
StorageUser=slurm
StoragePass=slurm
StorageLoc=accounting
"""
USER = "CREATE USER slurm@localhost IDENTIFIED BY 'slurm';\nGRANT ALL ON *.* TO slurm@localhost;\n"


class Accounted(Slurm):
    """A cluster that remembers what its controller has forgotten."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._port, self._database, self._first_job = own_port(), own_port(), 1
        with (folder / "slurm.conf").open("a") as conf:
            conf.write(CONF.format(port=self._port, folder=folder))
        self._user = pwd.getpwuid(os.geteuid()).pw_name
        text = DAEMON_CONF.format(
            port=self._port, database=self._database, folder=folder, user=self._user
        )
        # It reads none that others may.
        (folder / "slurmdbd.conf").write_text(text)
        (folder / "slurmdbd.conf").chmod(0o600)

    def start_services(self) -> None:
        """See `Slurm`."""
        super().start_services()
        data = self.folder / "database"
        if not data.exists():
            words = ["--no-defaults", f"--datadir={data}", f"--user={self._user}"]
            subprocess.run(
                ["mariadb-install-db", *words, "--skip-test-db"],
                env={**os.environ, "PATH": PATH},
                check=True,
                capture_output=True,
            )
            (self.folder / "user.sql").write_text(USER)
        places = [f"--datadir={data}", f"--socket={self.folder}/database.socket"]
        options = [*places, f"--user={self._user}", f"--init-file={self.folder}/user.sql"]
        address = ["--bind-address=127.0.0.1", f"--port={self._database}"]
        self.daemon("mariadbd", "--no-defaults", *options, *address)
        eventually((self.folder / "database.socket").exists, "MariaDB takes requests")
        self.daemon("slurmdbd", "-D")
        add = ("sacctmgr", "--immediate", "add", "cluster", "medperf")
        eventually(lambda: bool(self.says(*add)), "the accounting takes requests")

    def forget(self) -> None:
        """Have a controller that knows of no job any more."""
        self.kill("slurmctld", "-D")
        shutil.rmtree(self.folder / "state")
        (self.folder / "state").mkdir()
        # Numbers that are given out again are for another test: nodes refuse those they know.
        conf, first = self.folder / "slurm.conf", f"FirstJobId={self._first_job}"
        self._first_job += 1000
        conf.write_text(conf.read_text().replace(first, f"FirstJobId={self._first_job}"))
        self.start()


@pytest.fixture(scope="module")
def accounted() -> Iterator[Accounted]:
    """A cluster with two nodes and an accounting, for the tests of a file."""
    programs = (*slurm.PROGRAMS, *PROGRAMS)
    missing = [one for one in programs if shutil.which(one, path=PATH) is None]
    require("slurmdbd", not missing, f"{', '.join(missing)} is not installed")
    with tempfile.TemporaryDirectory(prefix="medperf-slurm-") as folder:
        cluster = Accounted(Path(folder))
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.stop()
