"""Containers as plain processes of the host: for trying things out, isolating nothing."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from medperf_client.containers.runner import Job, Runner
from medperf_client.containers.spec import PROCESS, ContainerSpec
from medperf_client.containers.supervise import failure, too_slow
from medperf_client.deadlines import deadline
from medperf_client.errors import ContainerFailed, InvalidContainer, Unsupported, WrongHash

# Makes a private folder that is deleted on leaving.
Scratch = Callable[[], AbstractContextManager[Path]]


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A private folder under TMPDIR. What is killed with SIGKILL leaves it there."""
    with tempfile.TemporaryDirectory(prefix="medperf-process-") as folder:
        yield Path(folder)


class ProcessRunner(Runner):
    """Runs `Process` containers, where the profile allows it.

    The image is a folder of code: `archive` is that folder, unchanging and named by its SHA-256.
    A task runs in a private copy of it and finds each volume under the folder named in
    MEDPERF_VOLUMES, at the volume's mount path. Of the limits, only the time holds. `scratch`
    gives the folder that holds all this while a task runs.
    """

    name = "process"
    kinds = (PROCESS,)
    notice = (
        "Process containers run as you, on this machine, with your files and network: "
        "nothing is isolated. Run only code you trust."
    )

    def __init__(self, allowed: bool, scratch: Scratch = temporary_folder) -> None:
        self._allowed, self._scratch = allowed, scratch
        self._folders: dict[str, Path] = {}

    def ready(self, spec: ContainerSpec) -> None:
        """See `Runner`."""
        super().ready(spec)
        if not self._allowed:
            raise Unsupported(
                f"{spec.source} is a {PROCESS} container, which this profile does not allow",
                hint="It would run unisolated. If you trust its code, set allow_process: true in "
                "the profile.",
            )

    def image_id(
        self, spec: ContainerSpec, archive: Path | None = None, expected: str | None = None
    ) -> str | None:
        """See `Runner`."""
        self.check(spec)
        return archive.name if archive else None

    def provide(
        self, spec: ContainerSpec, archive: Path | None = None, expected: str | None = None
    ) -> str:
        """See `Runner`."""
        self.ready(spec)
        if archive is None:
            raise InvalidContainer(f"{spec.source}: the code {spec.image} is not at hand")
        if expected and archive.name != expected:
            raise WrongHash(f"{spec.image} is code {archive.name}, but {expected} is registered")
        self._folders[archive.name] = archive
        return archive.name

    def keep(self, spec: ContainerSpec, image_id: str) -> None:
        """See `Runner`."""

    def run(self, job: Job) -> None:
        """See `Runner`. `provide` must have seen the image."""
        with self._scratch() as scratch:
            code, home = scratch / "code", scratch / "home"
            # A copy, because whoever runs as root can write to a read-only folder.
            shutil.copytree(self._folders[job.image_id], code, symlinks=True)
            home.mkdir()
            volumes = _lay_out(job, scratch / "volumes")
            environment = {
                "PATH": os.environ.get("PATH", os.defpath),
                "LANG": os.environ.get("LANG", "C.UTF-8"),
                "HOME": str(home),
                "TMPDIR": str(home),
                **job.task.environment,
                "MEDPERF_VOLUMES": str(volumes),
            }
            exit_code, expired = _supervise(job, code, environment)
        if expired:
            raise too_slow(job)
        if exit_code < 0:
            raise failure(job, f"was killed by signal {-exit_code}")
        if exit_code:
            raise failure(job, f"failed with exit code {exit_code}")


def _lay_out(job: Job, root: Path) -> Path:
    """Links to the volumes, each at its mount path below `root`."""
    paths = {**job.inputs, **job.outputs}
    for volume in job.task.inputs + job.task.outputs:
        link = root / volume.mount_path.lstrip("/")
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(paths[volume.name].resolve())
    return root


def _supervise(job: Job, code: Path, environment: dict[str, str]) -> tuple[int, bool]:
    """Run the command to its end; exit code, and whether the time limit ended it."""
    command = [*(job.task.entrypoint or ()), *job.task.command]
    with open(job.log, "wb") as log:
        try:
            process = subprocess.Popen(
                command,
                cwd=code,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # A group of its own, so that all of it can be stopped at once.
                start_new_session=True,
            )
        except OSError as error:
            raise ContainerFailed(
                f"task {job.task.name} cannot be run: {command[0]}: {error.strerror}"
            ) from error
        try:
            with deadline(job.limits.seconds, lambda: _kill_group(process.pid)) as expired:
                # Not reaped yet, so that the number cannot become another group's.
                os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        finally:
            # Also what the command left running.
            _kill_group(process.pid)
            process.wait()
    return process.returncode, expired.is_set()


def _kill_group(group: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)
