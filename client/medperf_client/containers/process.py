"""Containers as plain processes of the host: for trying things out, isolating nothing."""

import os
import posixpath
import shutil
from collections.abc import Iterable
from pathlib import Path

from medperf_cache.digests import is_digest
from medperf_cache.trees import make_writable
from medperf_client.containers.job import USER, Job, Limits, Mount
from medperf_client.containers.runner import Runner
from medperf_client.containers.spec import PROCESS, ContainerSpec
from medperf_client.containers.volumes import FileFolder, keep_links, laid_out, take, workplace
from medperf_client.errors import ContainerFailed, InvalidContainer, Unsupported, WrongHash

NOTICE = (
    "Process containers run as you, on this machine, with your files and network: "
    "nothing is isolated. Run only code you trust."
)


class ProcessRunner(Runner):
    """Runs `Process` containers, where the profile allows it.

    The image is a folder of code: `archive` is that folder, unchanging and named by its SHA-256.
    A task runs in a private copy of it and finds each volume under the folder named in
    MEDPERF_VOLUMES, at the volume's mount path: inputs are mounted there so that it cannot write to
    them, or are copies where this machine allows no such mounts. Of the limits, only the time
    holds.
    """

    name = "process"
    kinds = (PROCESS,)

    def __init__(self, allowed: bool) -> None:
        self._allowed = allowed

    def ready(self, spec: ContainerSpec) -> None:
        """See `Runner`."""
        super().ready(spec)
        if not self._allowed:
            raise Unsupported(
                f"{spec.source} is a {PROCESS} container, which this profile does not allow",
                hint="It would run unisolated. If you trust its code, set allow_process: true in "
                "the profile.",
            )

    def not_held(self) -> list[str]:
        """See `Runner`."""
        return [NOTICE, "Of the limits, only task_timeout and those on its output hold."]

    def warning(self, limits: Limits) -> str:
        """See `Runner`."""
        return NOTICE

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
        return archive.name

    def keep(self, spec: ContainerSpec, image_id: str) -> None:
        """See `Runner`."""

    def run(self, job: Job) -> None:
        """See `Runner`. What it is killed with SIGKILL in the midst of stays in `job.scratch`."""
        # Imported late: what is remembered is not run.
        from medperf_client.containers.supervise import failure, supervised, too_slow

        if job.archive is None:
            raise ContainerFailed(f"task {job.called} cannot be run: its code is not at hand")
        with workplace(job) as folder:
            code, home, volumes = folder / "code", folder / "home", folder / "volumes"
            # A copy, because whoever runs as root can write to a read-only folder.
            shutil.copytree(job.archive, code, symlinks=True)
            make_writable(code)
            home.mkdir()
            environment = {
                "PATH": os.environ.get("PATH", os.defpath),
                "LANG": os.environ.get("LANG", "C.UTF-8"),
                "HOME": str(home),
                "USER": USER,
                "TMPDIR": str(home),
                **job.environment,
                "MEDPERF_VOLUMES": str(volumes),
            }
            folders = FileFolder.all_of(job)
            with laid_out(folders, str(volumes)):
                inputs = _lay_out(job, folders, volumes)
                task = {
                    "command": [*(job.entrypoint or ()), *job.command],
                    "environment": environment,
                    "inputs": inputs,
                }
                try:
                    exit_code, expired = supervised(job, task, code)
                finally:
                    _gather(job, folders, volumes)
            for mount in _outputs(job):
                keep_links(mount.path, f"{volumes}{mount.mount_path}")
        if expired:
            raise too_slow(job)
        if exit_code < 0:
            raise failure(job, f"was killed by signal {-exit_code}")
        if exit_code:
            raise failure(job, f"failed with exit code {exit_code}")


def _outputs(job: Job) -> list[Mount]:
    return [mount for mount in job.mounts if not mount.read_only]


def _lay_out(job: Job, folders: Iterable[FileFolder], root: Path) -> list[tuple[str, str, bool]]:
    """Links to outputs at their mount paths below `root`; returns what `launch` puts there too.

    Those are the inputs: what each is, where it belongs, and whether it is content that is kept
    by its digest, which nothing may change.
    """
    root.mkdir()

    def place(mount_path: str) -> Path:
        path = root / mount_path.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    for folder in folders:
        place(folder.mount_path).symlink_to(folder.path)
    for mount in _outputs(job):
        if not any(mount in folder.files for folder in folders):
            place(mount.mount_path).symlink_to(mount.path)
    return [
        (str(mount.path), str(place(mount.mount_path)), any(map(is_digest, mount.path.parts)))
        for mount in job.mounts
        if mount.read_only
    ]


def _gather(job: Job, folders: Iterable[FileFolder], root: Path) -> None:
    """Take what is where links to outputs were, should the task have put something else there."""
    for folder in folders:
        made = root / folder.mount_path.lstrip("/")
        if made.is_dir() and not made.is_symlink():
            for file in folder.files:
                name = posixpath.basename(file.mount_path)
                take(folder.place(file), made / name, f"{root}{file.mount_path}")
    for mount in _outputs(job):
        found = root / mount.mount_path.lstrip("/")
        in_folder = any(mount in folder.files for folder in folders)
        # Whatever it made links to outside, the task cannot have meant that to be moved away.
        if not in_folder and found.parent.resolve().is_relative_to(root.resolve()):
            take(mount.path, found, f"{root}{mount.mount_path}")
