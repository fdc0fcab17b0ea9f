"""Containers on a Docker engine, or on Podman through its Docker-compatible socket."""

import os
import resource
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from medperf_cache.images import ImageStore
from medperf_client.containers import engine, owner
from medperf_client.containers.archive import archive_image_id
from medperf_client.containers.runner import Job, Runner
from medperf_client.containers.spec import DOCKER_ARCHIVE, DOCKER_IMAGE, ContainerSpec, Volume
from medperf_client.containers.supervise import failure, too_slow
from medperf_client.deadlines import deadline
from medperf_client.errors import (
    ContainerFailed,
    InvalidContainer,
    MedPerfError,
    Offline,
    Unsupported,
    WrongHash,
)

# docker takes 0.2 s to import, so only what needs an engine's full service does.
if TYPE_CHECKING:
    from docker import APIClient

# Between two bytes of an answer. Loading or unpacking a large image is silent for minutes.
ENGINE_TIMEOUT_SECONDS = 900
CHUNK_BYTES = 1 << 20
# Of open files, and of a user's processes: what Podman's service may grant, whoever asks.
ULIMIT = 32768
# How registries and engines say that the network is fine and the image is not to be had.
_NO_SUCH_IMAGE = ("manifest unknown", "name unknown", "denied", "unauthorized")

Progress = Callable[[str, int, int | None], None]


class DockerRunner(Runner):
    """Runs `DockerImage` and `DockerArchive` containers.

    The engine is the one the Docker SDK finds: DOCKER_HOST, the current context, or the default
    socket. `progress` is told of downloads: what, bytes so far, bytes in all if known. With
    `offline` nothing is pulled. `copies` are those that `keep` makes; an image that the engine
    has lost comes back from there.
    """

    name = "docker"
    kinds = (DOCKER_IMAGE, DOCKER_ARCHIVE)

    def __init__(
        self,
        progress: Progress | None = None,
        offline: bool = False,
        copies: ImageStore | None = None,
    ) -> None:
        self._progress, self._offline, self._copies = progress, offline, copies

    def ready(self, spec: ContainerSpec) -> None:
        """See `Runner`."""
        super().ready(spec)
        with _engine_trouble("the container engine cannot be used", Unsupported):
            self._api.ping()

    def image_id(
        self, spec: ContainerSpec, archive: Path | None = None, expected: str | None = None
    ) -> str | None:
        """See `Runner`. An image the engine has lost counts as here if there is a copy of it."""
        self.check(spec)
        if spec.kind == DOCKER_ARCHIVE:
            return archive_image_id(archive) if archive else None
        return self._present(spec, expected) or self._copied(spec, expected)

    def provide(
        self, spec: ContainerSpec, archive: Path | None = None, expected: str | None = None
    ) -> str:
        """See `Runner`."""
        self.check(spec)
        if spec.kind == DOCKER_IMAGE:
            found = self._provide_image(spec, expected)
        elif archive is not None:
            found = self.load(archive)
        else:
            raise InvalidContainer(f"{spec.source}: the archive {spec.image} is not at hand")
        if expected and found != expected:
            raise WrongHash(
                f"{spec.image} is image {found}, but {expected} is registered",
                hint="The name was given to another image. Ask the container's owner which counts.",
            )
        return found

    def _provide_image(self, spec: ContainerSpec, expected: str | None) -> str:
        present = self._present(spec, expected)
        if present:
            return present
        copied = self._copied(spec, expected)
        if copied is None:
            return self._pull(spec)
        assert self._copies is not None
        try:
            self._load(self._copies.read(copied), copied, f"the copy of {spec.image}")
        except MedPerfError as error:
            error.hint = "If it is damaged, remove it with: medperf storage verify --remove"
            raise
        # A copy has no name, and the next image_id() asks by name.
        if "@" not in spec.image and self._id(spec.image) is None:
            self._name(copied, spec.image)
        return copied

    def keep(self, spec: ContainerSpec, image_id: str) -> None:
        """See `Runner`. Writes as many bytes as the image has, but shares layers with others."""
        if spec.kind != DOCKER_IMAGE or self._copies is None:
            return
        if image_id not in self._copies:
            self._copies.add(image_id, self._counted(f"copy of {spec.image}", self.save(image_id)))
        self._copies.name(spec.image, image_id)

    def _present(self, spec: ContainerSpec, expected: str | None) -> str | None:
        return self._id(f"sha256:{expected}" if expected else spec.image)

    def _copied(self, spec: ContainerSpec, expected: str | None) -> str | None:
        """The ID of the image if there is a copy of it, the expected one or the one of its name."""
        if self._copies is None:
            return None
        wanted = expected or self._copies.named(spec.image)
        return wanted if wanted is not None and wanted in self._copies else None

    def _counted(self, what: str, chunks: Iterator[bytes]) -> Iterator[bytes]:
        done = 0
        for chunk in chunks:
            done += len(chunk)
            self._tell(what, done, None)
            yield chunk
        self._tell(what, done, done)

    def _name(self, image_id: str, reference: str) -> None:
        from docker.utils import parse_repository_tag

        repository, tag = parse_repository_tag(reference)
        with _engine_trouble(f"image {image_id} cannot be named {reference}"):
            self._api.tag(f"sha256:{image_id}", repository, tag or "latest")

    def save(self, image_id: str) -> Iterator[bytes]:
        """An image that is here, as `docker save` writes it; `load` takes it back."""
        with _engine_trouble(f"image {image_id} cannot be saved"):
            yield from self._api.get_image(f"sha256:{image_id}", chunk_size=CHUNK_BYTES)

    def load(self, path: Path) -> str:
        """Give the engine the image in a `docker save` archive, unless it has it; returns the ID.

        Raises `InvalidContainer` if the file is none, `WrongHash` if the engine makes another
        image of it.
        """
        image_id = archive_image_id(path)
        if self._id(f"sha256:{image_id}") is None:
            with open(path, "rb") as content:
                self._load(content, image_id, str(path))
        return image_id

    def _load(self, content: Iterable[bytes], image_id: str, source: str) -> None:
        with _engine_trouble(f"{source} cannot be loaded"):
            for event in self._api.load_image(content):
                if "error" in event:
                    raise InvalidContainer(f"{source} cannot be loaded: {event['error']}")
        if self._id(f"sha256:{image_id}") is None:
            raise WrongHash(f"the engine loaded {source}, but not as image {image_id}")

    def run(self, job: Job) -> None:
        """See `Runner`. The container gets no more than the job names; see `_isolation`."""
        name = f"medperf-{job.task.name}-{uuid4().hex[:12]}"
        with _engine_trouble(f"task {job.task.name} cannot be run", ContainerFailed):
            api = self._api
            try:
                self._create(name, job)
                code, expired = self._follow(name, job)
                if expired:
                    raise too_slow(job)
                if code:
                    raise failure(job, self._why(name, code))
            finally:
                _remove(api, name)

    def sweep(self) -> list[str]:
        """Remove the containers that clients killed with SIGKILL left; returns their names."""
        return _sweep(self._api)

    @cached_property
    def _api(self) -> "APIClient":
        """The engine's client, which also sweeps once. Raises `Unsupported` without an engine."""
        import docker
        import requests

        try:
            api = docker.from_env(timeout=ENGINE_TIMEOUT_SECONDS).api
        except (docker.errors.DockerException, requests.RequestException) as error:
            raise Unsupported(
                f"no container engine answers: {error}",
                hint="Start Docker or Podman's socket, or set DOCKER_HOST to where one listens.",
            ) from error
        _sweep(api)
        return api

    def _id(self, reference: str) -> str | None:
        socket = engine.socket_path()
        if socket is not None:
            return engine.image_id(socket, reference)
        api = self._api
        import docker

        try:
            return engine.plain_id(api.inspect_image(reference)["Id"])
        except docker.errors.ImageNotFound:
            return None

    def _pull(self, spec: ContainerSpec) -> str:
        """Fetch an image by name; returns its ID."""
        if self._offline:
            raise Offline(f"image {spec.image} is not here, and this works offline, as asked")
        import docker

        with _engine_trouble(f"image {spec.image} cannot be pulled", Offline):
            try:
                for event in self._api.pull(spec.image, stream=True, decode=True):
                    if "error" in event:
                        raise _no_pull(spec, event["error"])
                    self._show(spec.image, event)
            except docker.errors.APIError as error:
                raise _no_pull(spec, error.explanation or str(error)) from error
        found = self._id(spec.image)
        if found is None:
            raise Offline(f"image {spec.image} is not here after it was pulled")
        return found

    def _create(self, name: str, job: Job) -> None:
        task, api = job.task, self._api
        api.create_container(
            f"sha256:{job.image_id}",
            name=name,
            command=list(task.command) or None,
            # The engine's way to say that the image's own is to be forgotten.
            entrypoint=None if task.entrypoint is None else list(task.entrypoint) or [""],
            # The container's own /tmp, see below.
            environment={"HOME": "/tmp", **task.environment},  # nosec B108
            user=self._user,
            labels={owner.LABEL: owner.this_process()},
            host_config=api.create_host_config(**_isolation(job)),
            # Proxies in the client's configuration are its own affair, with their passwords.
            use_config_proxy=False,
        )

    def _follow(self, name: str, job: Job) -> tuple[int, bool]:
        """Start a container and write its log until it ends; exit code, and whether it had to."""
        api = self._api
        output = api.attach(name, stream=True)
        with (
            open(job.log, "wb", buffering=0) as log,
            deadline(job.limits.seconds, lambda: _kill(api, name)) as expired,
        ):
            api.start(name)
            for chunk in output:
                log.write(chunk)
            code = api.wait(name, timeout=None)["StatusCode"]
        return code, expired.is_set()

    def _why(self, name: str, code: int) -> str:
        if self._api.inspect_container(name)["State"].get("OOMKilled"):
            return "ran out of memory"
        return f"failed with exit code {code}"

    @cached_property
    def _user(self) -> str:
        """The caller, as the engine counts users.

        Under a rootless engine the caller is the container's root, and other users in it own
        files that the caller cannot read.
        """
        if os.getuid() != 0 and any(
            "rootless" in option for option in self._api.info().get("SecurityOptions") or []
        ):
            return "0:0"
        return f"{os.getuid()}:{os.getgid()}"

    def _show(self, image: str, event: dict[str, Any]) -> None:
        if event.get("status") == "Downloading":
            detail = event["progressDetail"]
            self._tell(f"{image} {event['id']}", detail.get("current", 0), detail.get("total"))

    def _tell(self, what: str, done: int, total: int | None) -> None:
        if self._progress:
            self._progress(what, done, total)


def _isolation(job: Job) -> dict[str, Any]:
    """What a container is kept from, and the little it is given (for `create_host_config`)."""
    from docker.types import DeviceRequest, LogConfig

    task, limits = job.task, job.limits
    which = (
        {"device_ids": list(task.gpus)} if isinstance(task.gpus, tuple) else {"count": task.gpus}
    )
    gpus = None if task.gpus is None else [DeviceRequest(capabilities=[["gpu"]], **which)]
    return {
        "network_mode": "none",
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "read_only": True,
        # MedPerf's containers may count on a /tmp to write to, and to run programs from.
        "tmpfs": {"/tmp": "rw,exec,nosuid,nodev,mode=1777"},  # nosec B108
        "mounts": [
            *(_mount(volume, job.inputs[volume.name], read_only=True) for volume in task.inputs),
            *(_mount(volume, job.outputs[volume.name], read_only=False) for volume in task.outputs),
        ],
        "pids_limit": limits.pids,
        "mem_limit": limits.memory_bytes,
        # Memory and swap together: no swap beside the memory.
        "memswap_limit": limits.memory_bytes,
        "shm_size": task.shm_size,
        "device_requests": gpus,
        "ulimits": [
            _ulimit("nofile", resource.RLIMIT_NOFILE),
            _ulimit("nproc", resource.RLIMIT_NPROC),
        ],
        # A process 1 that reaps, so that programs that rely on it leave no zombies.
        "init": True,
        # The log is ours; the engine needs no second copy.
        "log_config": LogConfig(type="none"),
    }


def _ulimit(name: str, which: int) -> Any:
    """The caller's own limit: an engine's default can be more than the machine lets it grant."""
    from docker.types import Ulimit

    own = resource.getrlimit(which)[1]
    most = ULIMIT if own == resource.RLIM_INFINITY else min(own, ULIMIT)
    return Ulimit(name=name, soft=most, hard=most)


def _mount(volume: Volume, path: Path, read_only: bool) -> Any:
    from docker.types import Mount

    return Mount(volume.mount_path, str(path.resolve()), type="bind", read_only=read_only)


@contextmanager
def _engine_trouble(what: str, kind: type[MedPerfError] = MedPerfError) -> Iterator[None]:
    """Turn what the SDK raises into an error of ours that says what cannot be done, and why."""
    import docker
    import requests
    import urllib3

    try:
        yield
    except docker.errors.APIError as error:
        raise kind(f"{what}: {error.explanation or error}") from error
    except (
        docker.errors.DockerException,
        requests.RequestException,
        urllib3.exceptions.HTTPError,
        OSError,
    ) as error:
        raise kind(f"{what}: {error}") from error


def _no_pull(spec: ContainerSpec, words: str) -> MedPerfError:
    message = f"image {spec.image} cannot be pulled: {words}"
    if any(reason in words for reason in _NO_SUCH_IMAGE):
        return InvalidContainer(
            message,
            hint=f"Check 'image' in {spec.source}; a private registry needs `docker login` first.",
        )
    return Offline(message, hint="Try again when the image registry can be reached.")


def _sweep(api: "APIClient") -> list[str]:
    left = [
        container
        for container in api.containers(all=True, filters={"label": owner.LABEL})
        if owner.is_gone(container["Labels"][owner.LABEL])
    ]
    for container in left:
        _remove(api, container["Id"])
    return [container["Names"][0].lstrip("/") for container in left]


def _remove(api: "APIClient", container: str) -> None:
    """Stop and delete a container with its anonymous volumes, if it (still) is there."""
    with _whatever():
        api.remove_container(container, v=True, force=True)


def _kill(api: "APIClient", container: str) -> None:
    with _whatever():
        api.kill(container)


@contextmanager
def _whatever() -> Iterator[None]:
    """For what is done last: it may be done already, or the engine be gone; a sweep mends that."""
    import docker
    import requests

    try:
        yield
    except (docker.errors.DockerException, requests.RequestException):
        return
