"""Containers on Apptainer, which clusters have: programs of an ordinary user, and no engine."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medperf_cache.digests import is_digest
from medperf_cache.scratch import remove_tree
from medperf_client.containers import cgroups, launch, sif
from medperf_client.containers.archive import archive_image_id, counted
from medperf_client.containers.docker import TMP, DockerRunner, Progress
from medperf_client.containers.job import USER, Job, Limits, Mount
from medperf_client.containers.runner import Runner
from medperf_client.containers.spec import (
    ALL_GPUS,
    DOCKER_ARCHIVE,
    DOCKER_IMAGE,
    SINGULARITY_FILE,
    ContainerSpec,
)
from medperf_client.containers.supervise import failure, supervised, too_slow
from medperf_client.containers.volumes import FileFolder, keep_links, laid_out, workplace
from medperf_client.errors import (
    ContainerFailed,
    InvalidContainer,
    Offline,
    Unsupported,
    WrongHash,
)

if TYPE_CHECKING:  # A node that runs an image opens no cache.
    from medperf_cache import Storage

VAR_TMP = "/var/tmp"  # nosec B108
# What a container is kept from. Its user gets no capabilities there, and no other user.
ISOLATION = (
    *("--userns", "--containall", "--no-privs", "--net", "--network", "none"),
    # What a site's own configuration adds, such as its file systems.
    *("--no-mount", "bind-paths,hostfs", "--hostname", USER),
    # What is written in a command is meant as it is, as on Docker.
    "--no-eval",
)
# In a path that is no mount's. Those are written so that they may hold anything.
SEPARATORS = set(',:"\n')
# How the names of variables begin that are for the container.
INSIDE = ("APPTAINERENV", "SINGULARITYENV")
GPUS = "CUDA_VISIBLE_DEVICES"

NO_MEMORY = (
    "memory: you may make no control group here, so this limit does not hold. Start medperf where "
    "one holds: with systemd-run --user --scope -p MemoryMax=64G, or in a job of the cluster's."
)
NO_PROCESSES = (
    "pids_limit: it holds neither for root nor where users may make no namespaces of their own."
)
ALWAYS = (
    "gpus: a task that asks for some sees all of them; CUDA_VISIBLE_DEVICES says which to use.",
    "shm_size: /dev/shm takes what the machine's memory takes.",
    "read_only_root: without it a task may write to all of its image, which goes with the task; "
    "with it, a task sees nothing that its image has beside an output file.",
    "HOME is /tmp, whatever a container's configuration says.",
)


class ApptainerRunner(Runner):
    """Runs `SingularityFile` containers as they are, `DockerImage` and `DockerArchive` converted.

    An image comes from the cache's copy, from a Docker engine of this machine, or from its
    registry, whichever has it first; of each the cache then has a copy. `storage` is needed to
    provide an image, not to run one. For the rest see `DockerRunner`.
    """

    name = "apptainer"
    kinds = (DOCKER_IMAGE, DOCKER_ARCHIVE, SINGULARITY_FILE)

    def __init__(
        self,
        progress: Progress | None = None,
        offline: bool = False,
        storage: "Storage | None" = None,
    ) -> None:
        self._progress, self._offline, self._storage = progress, offline, storage

    def ready(self, spec: ContainerSpec) -> None:
        """See `Runner`."""
        super().ready(spec)
        sif.require_program()

    def warning(self, limits: Limits) -> str:
        """See `Runner`."""
        return "" if limits.memory_bytes is None or _memory_holds() else NO_MEMORY

    def not_held(self) -> list[str]:
        """See `Runner`."""
        memory = [] if _memory_holds() else [NO_MEMORY]
        return [*memory, *([] if _processes_hold() else [NO_PROCESSES]), *ALWAYS]

    @property
    def _here(self) -> "Storage":
        assert self._storage is not None, "who provides images has a cache"
        return self._storage

    @property
    def _docker(self) -> DockerRunner:
        """What a Docker engine of this machine has is had from there."""
        return DockerRunner(self._progress, self._offline, self._here.images)

    def image_id(
        self, spec: ContainerSpec, archive: Path | None = None, expected: str | None = None
    ) -> str | None:
        """See `Runner`."""
        self.check(spec)
        if spec.kind == DOCKER_IMAGE:
            return self._converted(expected) or self._present(spec, expected)
        if archive is None:
            return None
        if spec.kind == DOCKER_ARCHIVE:
            return archive_image_id(archive, spec.image)
        return self._file_id(spec, archive)

    def _file_id(self, spec: ContainerSpec, archive: Path) -> str:
        if not sif.is_sif(archive):
            raise InvalidContainer(
                f"{spec.image} is no image of Apptainer's",
                hint="Make it with: apptainer build FILE.sif docker-archive:SAVED.tar",
            )
        is_kept = is_digest(archive.name) and self._here.keeps(archive)
        return archive.name if is_kept else self._here.fingerprints.digest(archive)

    def _converted(self, expected: str | None) -> str | None:
        """The ID of an expected image that is converted already."""
        image_id = expected and (self._here.images.id_of(expected) or expected)
        return image_id if image_id and sif.SifStore(self._here).find(image_id) else None

    def _present(self, spec: ContainerSpec, expected: str | None) -> str | None:
        """The ID of an image that an engine or the cache has."""
        try:
            return self._docker.image_id(spec, expected=expected)
        except Unsupported:
            # An engine elsewhere, which does not answer.
            return self._here.images.copied(spec.image, expected)

    def provide(
        self, spec: ContainerSpec, archive: Path | None = None, expected: str | None = None
    ) -> str:
        """See `Runner`."""
        self.check(spec)
        images = sif.SifStore(self._here)
        if spec.kind == DOCKER_IMAGE:
            known = self._converted(expected)
            if known is not None:
                return known
            image_id = self._copy(spec, expected)
            images.convert_copy(image_id, spec.image)
            return image_id
        if archive is None:
            raise InvalidContainer(f"{spec.source}: the file {spec.image} is not at hand")
        if spec.kind == SINGULARITY_FILE:
            image_id = self._file_id(spec, archive)
        else:
            image_id = archive_image_id(archive, spec.image)
            images.convert_archive(image_id, archive, spec.image)
        if expected and image_id != expected:
            raise WrongHash(f"{spec.image} is image {image_id}, but {expected} is registered")
        return image_id

    def local_file(self, spec: ContainerSpec, image_id: str, archive: Path | None) -> Path | None:
        """See `Runner`: what was converted."""
        is_file = spec.kind == SINGULARITY_FILE
        return archive if is_file else sif.SifStore(self._here).find(image_id)

    def keep(self, spec: ContainerSpec, image_id: str) -> None:
        """See `Runner`."""
        if spec.kind == DOCKER_IMAGE:
            self._copy(spec, image_id)

    def _copy(self, spec: ContainerSpec, expected: str | None) -> str:
        """Have a copy of an image in the cache; returns its ID."""
        image_id = self._present(spec, expected)
        if image_id is None:
            image_id = self._fetched(spec, expected)
        elif image_id not in self._here.images:
            self._docker.keep(spec, image_id)
        self._here.images.name(spec.image, image_id)
        return image_id

    def _fetched(self, spec: ContainerSpec, expected: str | None) -> str:
        """Copy an image from its registry, by name, or by the digest if the name moved on."""
        if self._offline:
            raise Offline(f"image {spec.image} is not here, and this works offline, as asked")
        from medperf_client.containers import distribution

        found = distribution.found(spec.image)
        if expected and expected not in found.digests:
            try:
                found = distribution.found(spec.image, expected)
            except InvalidContainer:
                raise WrongHash(
                    f"{spec.image} is image {found.id}, but {expected} is registered",
                    hint="The name was given to another image. Ask the container's owner which "
                    "counts.",
                ) from None
        images = self._here.images
        if found.id not in images:
            chunks = distribution.saved(spec.image, found.manifest)
            images.add(found.id, counted(chunks, spec.image, self._tell))
            images.prove(found.id, found.documents)
        images.know(found.id, found.digests)
        return found.id

    def _tell(self, what: str, done: int, total: int | None) -> None:
        if self._progress:
            self._progress(what, done, total)

    def sweep(self) -> list[str]:
        """See `Runner`. All processes of a task end with the client."""
        cgroups.sweep()
        return []

    def run(self, job: Job) -> None:
        """See `Runner`. Of its processes, those of Apptainer itself count too, some twenty."""
        if job.archive is None:
            raise ContainerFailed(f"task {job.called} cannot be run: its image is not at hand")
        with workplace(job) as folder, _laid_out(job, folder) as (mounts, overlay):
            _require_plain(overlay or folder)
            words, environment = _command(job, mounts, overlay)
            work, limits = folder / "work", job.limits
            work.mkdir()
            with cgroups.bounded(limits.memory_bytes, limits.pids) as groups:
                task = {
                    "command": [sif.require_program(), *words],
                    "environment": {**sif.own_environment(folder), **environment},
                    "pids": limits.pids,
                    "groups": list(map(str, groups)),
                }
                code, expired = supervised(job, task, work)
                ran_out = cgroups.ran_out(groups)
        for mount in job.mounts:
            if not mount.read_only:
                keep_links(mount.path, mount.mount_path)
        if expired:
            raise too_slow(job)
        if code:
            raise failure(job, "ran out of memory" if ran_out else f"failed with exit code {code}")


def _memory_holds() -> bool:
    return cgroups.MEMORY in cgroups.places()


def _processes_hold() -> bool:
    return cgroups.PIDS in cgroups.places() or (os.geteuid() != 0 and launch.may_enter())


def _require_plain(folder: Path) -> None:
    """Raise `ContainerFailed` for a path that Apptainer takes for two, or for one with options."""
    if set(str(folder)) & SEPARATORS:
        raise ContainerFailed(
            f"Apptainer cannot work in {folder}, for a comma, colon or quote means something to it",
            hint="Set MEDPERF_HOME to a folder whose path has none of them.",
        )


@contextmanager
def _laid_out(job: Job, folder: Path) -> Iterator[tuple[list[Mount], Path | None]]:
    """What is mounted for a job, for the block, and the folder of what it writes over its image.

    An output file is found in a folder that is the image's and the task's at once, since both
    write there; with a root that is only read, in a folder without what the image has there.
    """
    mounts = list(job.mounts)
    for place in (TMP, VAR_TMP):
        if all(mount.mount_path != place for mount in mounts):
            own = folder / place.strip("/").replace("/", "-")
            own.mkdir()
            # As it is everywhere; who comes there is the folder's above to say.
            own.chmod(0o1777)
            mounts.append(Mount(own, place, read_only=False))
    folders = [each for each in FileFolder.all_of(job) if each.mount_path not in (TMP, VAR_TMP)]
    over = None if job.limits.read_only_root else folder / "over"
    within = []
    for each in folders:
        mounts = [mount for mount in mounts if mount not in each.files]
        if over is None or each.mount_path.startswith((f"{TMP}/", f"{VAR_TMP}/")):
            mounts.append(Mount(each.path, each.mount_path, read_only=False))
        else:
            within.append(each)
    if within:
        # Where it outlives this client, as any such folder does.
        over = within[0].path
        inside = [replace(each, path=_place(over, each.mount_path)) for each in within]
        folders = [each for each in folders if each not in within] + inside
        for each in inside:
            if each.path.exists():
                each.take()
        remove_tree(over)
    if over is not None:
        for part in ("upper", "work"):
            (over / part).mkdir(parents=True)
    try:
        with laid_out(folders):
            yield sorted(mounts, key=lambda mount: mount.mount_path), over
    finally:
        if over is not None:
            remove_tree(over)


def _place(over: Path, mount_path: str) -> Path:
    return over / "upper" / mount_path.lstrip("/")


def _command(job: Job, mounts: list[Mount], over: Path | None) -> tuple[list[str], dict[str, str]]:
    """What Apptainer is called with, and what it finds in its environment."""
    assert job.archive is not None
    image, config = job.archive, None
    if image.is_dir():
        config = json.loads((image / sif.CONFIG).read_bytes()).get("config") or {}
        image = image / sif.IMAGE
    (tmp,) = (mount for mount in mounts if mount.mount_path == TMP)
    folder = TMP if config is None else config.get("WorkingDir") or "/"
    options = [*ISOLATION, "--home", f"{tmp.path}:{TMP}", "--pwd", folder]
    for mount in mounts:
        options += ["--mount", _mount(mount)]
    if over is not None:
        options += ["--overlay", str(over)]
    if job.gpus is not None:
        options.append("--nv")
    command = _called(job, config)
    how = "run" if command is None else "exec"
    environment = dict(entry.partition("=")[::2] for entry in (config or {}).get("Env") or ())
    environment |= {"TMPDIR": TMP, "USER": USER, **_gpus(job), **job.environment}
    # It lets nobody set this one so.
    environment.pop("HOME", None)
    named = {f"{kind}_{name}": value for name, value in environment.items() for kind in INSIDE}
    words = ["--silent", how, *options, str(image), *(job.command if command is None else command)]
    return words, named


def _called(job: Job, config: dict[str, Any] | None) -> list[str] | None:
    """What a task runs, by the image's configuration where it says nothing itself, as on Docker.

    None where the image is a file of Apptainer's own, and the task does not say it all.
    """
    if job.entrypoint is not None:
        return [*job.entrypoint, *job.command]
    if config is None:
        return None
    return [*(config.get("Entrypoint") or ()), *(job.command or config.get("Cmd") or ())]


def _mount(mount: Mount) -> str:
    """A mount as the line of CSV that Apptainer reads, whatever is in a path."""
    fields = ["type=bind", f"source={mount.path}", f"destination={mount.mount_path}"]
    if mount.read_only:
        fields.append("ro")
    doubled = (field.replace('"', '""') for field in fields)
    return ",".join(f'"{field}"' if set(field) & set(',"\n') else field for field in doubled)


def _gpus(job: Job) -> dict[str, str]:
    """Which devices a task is to use: Apptainer gives it all of them.

    Of a number of them, the first that the caller may use.
    """
    if job.gpus is None or job.gpus == ALL_GPUS:
        own = os.environ.get(GPUS) if job.gpus else None
        return {} if own is None else {GPUS: own}
    if isinstance(job.gpus, tuple):
        return {GPUS: ",".join(job.gpus)}
    listed = os.environ.get(GPUS, "").split(",")
    named = [name for name in listed if name] or list(map(str, range(job.gpus)))
    return {GPUS: ",".join(named[: job.gpus])}
