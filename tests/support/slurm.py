"""A real Slurm on this machine: a controller and two nodes, as whoever runs the tests."""

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
from scripts.ports import own_port

from tests.support.services import require

PROGRAMS = ("setpriv", "munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel")
PATH = os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/sbin"])
NODES = ("north", "south")
PATIENCE_SECONDS = 120
CONF = """
ClusterName=medperf
SlurmctldHost=localhost(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
ProctrackType=proctrack/linuxproc
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=1000
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
SlurmdParameters=config_overrides
ReturnToService=2
SlurmctldPort={ports[0]}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
MailProg=/bin/true
GresTypes=gpu
KillWait=1
SlurmdTimeout=10
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1
NodeName=DEFAULT CPUs={cpus} RealMemory=4000 Gres=gpu:1
NodeName=north NodeHostname=localhost NodeAddr=127.0.0.1 Port={ports[1]}
NodeName=south NodeHostname=localhost NodeAddr=127.0.0.1 Port={ports[2]}
PreemptType=preempt/partition_prio
PreemptMode=CANCEL
PartitionName=all Nodes=north,south Default=YES State=UP MaxTime=INFINITE PriorityTier=1
PartitionName=urgent Nodes=north,south State=UP MaxTime=INFINITE PriorityTier=9 PreemptMode=OFF
"""


class Slurm:
    """A cluster of which every daemon can be killed and started again; each node has `cpus`."""

    def __init__(self, folder: Path, cpus: int = 2) -> None:
        self.folder = folder
        self.environment = {"SLURM_CONF": str(folder / "slurm.conf")}
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}
        for name in ("state", *(f"spool-{node}" for node in NODES)):
            (folder / name).mkdir()
        user = pwd.getpwuid(os.geteuid()).pw_name
        ports = [own_port() for _ in range(3)]
        (folder / "slurm.conf").write_text(
            CONF.format(user=user, folder=folder, ports=ports, cpus=cpus)
        )
        (folder / "gres.conf").write_text("Name=gpu File=/dev/null\n")
        (folder / "munge.key").write_bytes(secrets.token_bytes(128))
        (folder / "munge.key").chmod(0o400)

    def start(self) -> None:
        """Start what does not run; returns when both nodes take jobs."""
        self.start_services()
        self.daemon("slurmctld", "-D")
        for node in NODES:
            self.daemon("slurmd", "-D", "-N", node)
        ready = {"idle", "mix", "alloc"}
        eventually(lambda: set() < self._trusted() <= ready, "both nodes take jobs")

    def start_services(self) -> None:
        """Start what its daemons need."""
        files = {"socket": "socket", "key-file": "key", "pid-file": "pid", "seed-file": "seed"}
        options = [f"--{name}={self.folder}/munge.{end}" for name, end in files.items()]
        log = f"--log-file={self.folder}/munge.log"
        self.daemon("munged", "--foreground", "--force", *options, log)
        eventually((self.folder / "munge.socket").exists, "munged made its socket")

    @contextmanager
    def attended(self) -> Iterator[None]:
        """For a block, have somebody look after nodes that the controller does not trust any more.

        One that was killed gives numbers of jobs that it does not know of to others, and drains a
        node that has both.
        """
        is_over = threading.Event()

        def attend() -> None:
            while not is_over.wait(1):
                self._trusted()

        person = threading.Thread(target=attend)
        person.start()
        try:
            yield
        finally:
            is_over.set()
            person.join()

    def _trusted(self) -> set[str]:
        """The states of the nodes, each of which may take jobs again."""
        if any(state.startswith("dr") for state in self.nodes()):
            self.says("scontrol", "update", f"nodename={','.join(NODES)}", "state=resume")
        return self.nodes()

    def nodes(self) -> set[str]:
        """The states that nodes are in."""
        return set(self.says("sinfo", "--noheader", "--format=%t").split())

    def kill(self, *words: str) -> None:
        """End a daemon, by its program and its options, with SIGKILL."""
        process = self._daemons.pop(" ".join(words))
        process.kill()
        process.wait()

    def says(self, program: str, *words: str) -> str:
        """What a command answers; nothing while the controller is away."""
        done = subprocess.run(
            [program, *words],
            env={**os.environ, "PATH": PATH, **self.environment},
            capture_output=True,
            text=True,
            timeout=120,
        )
        return done.stdout

    def jobs(self, *states: str) -> list[str]:
        """The jobs in one of these states, or all that did not end, as `17_3`."""
        chosen = [f"--states={','.join(states)}"] if states else []
        return self.says("squeue", "--array", "--noheader", "--format=%F_%K", *chosen).split()

    def held(self) -> list[str]:
        """Those of its jobs that it does not begin until somebody looks after them."""
        lines = self.says("squeue", "--array", "--noheader", "--format=%F_%K|%r").splitlines()
        return [job for job, _, why in (line.partition("|") for line in lines) if "held" in why]

    def processes(self, *words: str) -> list[psutil.Process]:
        """What its jobs run, and what watches over them: whose command has one of these words."""
        found = {}
        for process in psutil.process_iter():
            # One that ends meanwhile is none.
            with suppress(psutil.Error):
                if process.environ().get("SLURM_CONF") != self.environment["SLURM_CONF"]:
                    continue
                watcher = process.parent()
                # That shows nothing of its environment.
                is_watched = watcher is not None and watcher.name() == "slurmstepd"
                for one in (process, watcher) if is_watched else (process,):
                    if any(word in " ".join([one.name(), *one.cmdline()]) for word in words):
                        found[one.pid] = one
        return list(found.values())

    @contextmanager
    def closed(self) -> Iterator[None]:
        """Have jobs wait for the end of the block."""
        self.says("scontrol", "update", "partitionname=all", "state=down")
        try:
            yield
        finally:
            self.says("scontrol", "update", "partitionname=all", "state=up")

    def recover(self) -> None:
        """Have it as it was at first, whatever a test left."""
        self.start()
        self.says("scancel", f"--user={pwd.getpwuid(os.geteuid()).pw_name}")
        eventually(lambda: not self.jobs(), "no job is left")

    def stop(self) -> None:
        """End all of it."""
        self.says("scancel", f"--user={pwd.getpwuid(os.geteuid()).pw_name}")
        with suppress(AssertionError):
            eventually(lambda: not self.jobs(), "no job is left", seconds=20)
        for process in reversed(self._daemons.values()):
            process.send_signal(signal.SIGTERM)
        for process in self._daemons.values():
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for left in self.processes("slurmstepd", "--element", "sh"):
            with suppress(psutil.Error):
                left.kill()

    def daemon(self, *words: str) -> None:
        """Start one unless it runs, known by its program and its short options."""
        name = " ".join(word for word in words if not word.startswith("--"))
        if name in self._daemons:
            return
        with open(self.folder / f"{name}.log", "ab") as log:
            self._daemons[name] = subprocess.Popen(
                # Whatever becomes of the tests, it ends with them.
                ["setpriv", "--pdeathsig", "TERM", *words],
                env={**os.environ, "PATH": PATH, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )


def eventually(holds: Callable[[], bool], what: str, seconds: float = PATIENCE_SECONDS) -> None:
    """Wait until something holds."""
    patience = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < patience, f"not in {seconds} s: {what}"
        # What is asked is a command, mostly.
        time.sleep(0.2)


def missing() -> list[str]:
    """Those programs of Slurm's that this machine lacks."""
    return [one for one in PROGRAMS if shutil.which(one, path=PATH) is None]


@contextmanager
def running(cpus: int = 2) -> Iterator[Slurm]:
    """A cluster for the block; skips or fails by the rule of `require` without its programs."""
    require("slurm", not missing(), f"{', '.join(missing())} is not installed")
    with tempfile.TemporaryDirectory(prefix="medperf-slurm-") as folder:
        cluster = Slurm(Path(folder), cpus)
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.stop()


@pytest.fixture(scope="session")
def slurm() -> Iterator[Slurm]:
    """A cluster with two nodes, for all tests of this process."""
    with running() as cluster:
        yield cluster
