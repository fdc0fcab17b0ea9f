"""Containers on a Docker engine, or on Podman through its Docker-compatible socket."""

import os
import re
import resource
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from medperf_cache.errors import CacheError
from medperf_cache.images import ImageStore
from medperf_client.containers import engine, owner
from medperf_client.containers.archive import archive_image_id, counted
from medperf_client.containers.job import USER, Job, Mount
from medperf_client.containers.logs import BoundedLog
from medperf_client.containers.runner import Runner
from medperf_client.containers.spec import DOCKER_ARCHIVE, DOCKER_IMAGE, ContainerSpec
from medperf_client.containers.supervise import failure, too_slow
from medperf_client.containers.volumes import FileFolder, keep_links, laid_out, workplace
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
# Where the containers' own temporary files go. MedPerf's may count on it being there.
TMP = "/tmp"  # nosec B108
# How engines say that a network is away, or a registry busy: what may be other words tomorrow.
# Whatever else they say stays as it is, however long one waits.
_MAY_PASS = re.compile(
    r"connection (refused|reset|closed|timed out)|broken pipe|\bEOF\b|time-?out|deadline exceeded"
    r"|no such host|no route to host|is unreachable|temporary failure|server misbehaving"
    r"|proxyconnect|x509:|\btls: (?!first record)|too ?many ?requests"
    r"|\b(429|5\d\d) (?-i:[A-Z])|\b(HTTP|status ?(code)?:?) (429|5\d\d)\b"
    r"|internal server error|bad gateway|service unavailable"
    # A page that a captive portal answers with.
    r"|invalid character '<'|text/html",
    re.IGNORECASE,
)
_OTHER_PROCESSOR = re.compile(r"no matching manifest|no match for platform|no image found in")
# How an engine says what it made of an archive.
_LOADED = re.compile(r"Loaded image(?: ID)?: (\S+)")

Progress = Callable[[str, int, int | None], None]


@dataclass(frozen=True)
class _Image:
    """An image on an engine: its ID, what the engine calls it, every digest that is known of it."""

    id: str
    local: str
    digests: frozenset[str]


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
            return archive_image_id(archive, spec.image) if archive else None
        present = self._present(expected, spec.image)
        return present.id if present else self._copied(spec, expected)

    def provide(
        self, spec: ContainerSpec, archive: Path | None = None, expected: str | None = None
    ) -> str:
        """See `Runner`."""
        self.check(spec)
        if spec.kind == DOCKER_IMAGE:
            found = self._provide_image(spec, expected)
        elif archive is not None:
            found = self._of_archive(archive, spec.image)
        else:
            raise InvalidContainer(f"{spec.source}: the archive {spec.image} is not at hand")
        if expected and expected not in found.digests:
            raise WrongHash(
                f"{spec.image} is image {found.id}, but {expected} is registered",
                hint="The name was given to another image. Ask the container's owner which counts.",
            )
        return found.id

    def local_id(self, spec: ContainerSpec, image_id: str) -> str:
        """See `Runner`. Where Docker keeps images in containerd, it is a manifest's digest."""
        present = self._present(image_id, spec.image if spec.kind == DOCKER_IMAGE else None)
        return present.local if present else image_id

    def _provide_image(self, spec: ContainerSpec, expected: str | None) -> "_Image":
        present = self._present(expected, spec.image)
        if present:
            return present
        copied = self._copied(spec, expected)
        if copied is None:
            return self._pulled(spec, expected)
        assert self._copies is not None
        try:
            image = self._load(self._copies.read(copied), copied, f"the copy of {spec.image}")
        except MedPerfError as error:
            error.hint = "If it is damaged, remove it with: medperf storage verify --remove"
            raise
        # A copy has no name, and the next image_id() asks by name.
        if "@" not in spec.image and self._inspected(spec.image) is None:
            self._name(image, spec.image)
        return image

    def keep(self, spec: ContainerSpec, image_id: str) -> None:
        """See `Runner`. Writes as many bytes as the image has, but shares layers with others."""
        if spec.kind != DOCKER_IMAGE or self._copies is None:
            return
        if image_id not in self._copies:
            saved = self.save(self.local_id(spec, image_id))
            chunks = counted(saved, f"copy of {spec.image}", self._tell)
            try:
                proven = self._copies.add(image_id, chunks)
            except CacheError as error:
                proven = self._copies.add(image_id, self._from_registry(spec, image_id, error))
            self._prove(spec, image_id, proven)
        self._copies.name(spec.image, image_id)

    def _from_registry(
        self, spec: ContainerSpec, image_id: str, trouble: CacheError
    ) -> Iterator[bytes]:
        """An image that the engine has, and cannot save whole."""
        from medperf_client.containers.distribution import proof, saved

        assert self._copies is not None
        for digest in [] if self._offline else self._copies.digests_of(image_id):
            found = proof(spec.image, digest, image_id)
            if found:
                chunks = saved(spec.image, found[-1])
                return counted(chunks, f"copy of {spec.image}", self._tell)
        raise trouble

    def _prove(self, spec: ContainerSpec, image_id: str, proven: set[str]) -> None:
        """Keep with a copy the manifests that say by what digests registries know the image.

        A machine that has nothing but the copy could not tell which image is registered. Where they
        are not to be had, it has to take the word of a bundle that is signed.
        """
        from medperf_client.containers.distribution import proof

        assert self._copies is not None
        for digest in set() if self._offline else {*self._copies.digests_of(image_id)} - proven:
            self._copies.prove(image_id, proof(spec.image, digest, image_id))

    def _present(self, expected: str | None, name: str | None = None) -> "_Image | None":
        """The expected image if the engine has it, else without one that of the name."""
        for reference in self._references(expected, name):
            found = self._inspected(reference)
            image = found and self._identified(found)
            if image and expected in (None, *image.digests):
                return image
        return None

    def _references(self, expected: str | None, name: str | None) -> Iterator[str]:
        """By what an engine may know an image, the most likely first."""
        if expected:
            yield f"sha256:{expected}"
            if self._copies is not None:
                image_id = self._copies.id_of(expected) or expected
                known = self._copies.digests_of(image_id)
                yield from (f"sha256:{digest}" for digest in known if digest != expected)
        if name and expected:
            yield _by_digest(name, expected)
        if name:
            yield name

    def _identified(self, found: dict[str, Any]) -> "_Image":
        """Which image it is that the engine knows so.

        Where the engine's ID is no configuration's digest, and it is met the first time, the
        engine's archive of the image is read until it says which one that is.
        """
        local, digests = engine.plain_id(found["Id"]), engine.repository_digests(found)
        if engine.is_configuration(found):
            image_id = local
        else:
            known = self._copies and self._copies.id_of(local)
            way = [local, known] if known else self._way(local, found)
            image_id, digests = way[-1], digests.union(way)
        if self._copies is not None:
            self._copies.know(image_id, digests)
            digests = digests.union(self._copies.digests_of(image_id))
        return _Image(image_id, local, frozenset({image_id, *digests}))

    def _way(self, local: str, found: dict[str, Any]) -> list[str]:
        from medperf_cache.images import way_to_configuration

        platform = {
            name.lower(): found.get(name) or "" for name in ("Os", "Architecture", "Variant")
        }
        return way_to_configuration(self.save(local), local, platform)

    def _copied(self, spec: ContainerSpec, expected: str | None) -> str | None:
        return self._copies.copied(spec.image, expected) if self._copies is not None else None

    def _name(self, image: "_Image", reference: str) -> None:
        from docker.utils import parse_repository_tag

        repository, tag = parse_repository_tag(reference)
        with _engine_trouble(f"image {image.id} cannot be named {reference}"):
            self._api.tag(f"sha256:{image.local}", repository, tag or "latest")

    def save(self, local_id: str) -> Iterator[bytes]:
        """An image that is here, as `docker save` writes it; `load` takes it back."""
        with _engine_trouble(f"image {local_id} cannot be saved"):
            yield from self._api.get_image(f"sha256:{local_id}", chunk_size=CHUNK_BYTES)

    def load(self, path: Path, name: str = "") -> str:
        """Give the engine the image in a `docker save` archive, unless it has it; returns the ID.

        `name` is what people call it. Raises `InvalidContainer` if the file is none, `WrongHash`
        if the engine makes another image of it.
        """
        return self._of_archive(path, name).id

    def _of_archive(self, path: Path, name: str = "") -> "_Image":
        # Imported late: images in a registry do not need it.
        from medperf_cache.archives import without_zstd

        image_id = archive_image_id(path, name)
        present = self._present(image_id)
        if present:
            return present
        # Docker takes no image that is compressed with it.
        with without_zstd(path) as file:
            chunks = iter(lambda: file.read(CHUNK_BYTES), b"")
            return self._load(chunks, image_id, name or str(path))

    def _load(self, content: Iterable[bytes], image_id: str, source: str) -> "_Image":
        called = [f"sha256:{image_id}"]
        with _engine_trouble(f"{source} cannot be loaded"):
            for event in self._api.load_image(content):
                if "error" in event:
                    raise InvalidContainer(f"{source} cannot be loaded: {event['error']}")
                called += _LOADED.findall(event.get("stream") or "")
        # Engines read different lists in an archive: what each made of it is looked at.
        for reference in called:
            found = self._inspected(reference)
            image = found and self._identified(found)
            if image and image.id == image_id:
                return image
        raise WrongHash(f"the engine loaded {source}, but not as image {image_id}")

    def run(self, job: Job) -> None:
        """See `Runner`. The container gets no more than the job names; see `_isolation`."""
        name = f"medperf-{job.task}-{uuid4().hex[:12]}"
        with _engine_trouble(f"task {job.called} cannot be run", ContainerFailed):
            # Sweeps, so that what was left of an earlier run of this step writes no more.
            api = self._api
            image = job.image_id
            # Another engine than the one it was made ready on.
            if job.archive is not None and self._inspected(f"sha256:{image}") is None:
                image = self._of_archive(job.archive).local
            with workplace(job) as folder, self._laid_out(job, image, folder) as mounts:
                try:
                    self._create(name, job, image, mounts)
                    code, expired = self._follow(name, job)
                    if expired:
                        raise too_slow(job)
                    if code:
                        raise failure(job, self._why(name, code))
                finally:
                    _remove(api, name)
            for mount in job.mounts:
                if not mount.read_only:
                    keep_links(mount.path, mount.mount_path)

    @contextmanager
    def _laid_out(self, job: Job, image: str, folder: Path) -> Iterator[list[Mount]]:
        """What is mounted for a job, for the block; its own /tmp lies in `folder`."""
        mounts = list(job.mounts)
        if all(mount.mount_path != TMP for mount in mounts):
            own = folder / "tmp"
            own.mkdir()
            # As it is everywhere; who comes there is the folder's above to say.
            own.chmod(0o1777)
            mounts.append(Mount(own, TMP, read_only=False))
        folders = [
            each
            for each in FileFolder.all_of(job)
            # What the image has there would be hidden.
            if each.mount_path != TMP and not self._has(image, each.mount_path)
        ]
        for each in folders:
            mounts = [mount for mount in mounts if mount not in each.files]
            mounts.append(Mount(each.path, each.mount_path, read_only=False))
        with laid_out(folders):
            yield mounts

    def _has(self, image: str, path: str) -> bool:
        """Whether an image has anything at a path."""
        api = self._api
        # Nobody starts it, but without a command it could not be made.
        look = api.create_container(
            f"sha256:{image}", ["look"], labels={owner.LABEL: owner.this_process()}
        )["Id"]
        try:
            url = f"{api.base_url}/v{api.api_version}/containers/{look}/archive"
            return bool(api.head(url, params={"path": path}).status_code != HTTPStatus.NOT_FOUND)
        finally:
            _remove(api, look)

    def sweep(self) -> list[str]:
        """See `Runner`."""
        with _engine_trouble("what is left of earlier runs cannot be removed"):
            return _sweep(self._api)

    @cached_property
    def _api(self) -> "APIClient":
        """The engine's client, which also sweeps once. Raises `Unsupported` without an engine."""
        import docker
        import requests

        socket = self._socket()
        try:
            api = docker.from_env(
                version=engine.api_version(socket) if socket is not None else None,
                timeout=ENGINE_TIMEOUT_SECONDS,
                environment=self._environment(),
            ).api
        except (docker.errors.DockerException, requests.RequestException) as error:
            raise Unsupported(
                f"no container engine answers: {error}",
                hint="Start Docker or Podman's socket, or set DOCKER_HOST to where one listens.",
            ) from error
        _sweep(api)
        return api

    def _socket(self) -> str | None:
        """The engine's Unix socket; None if the SDK has to find the engine."""
        return engine.socket_path()

    def _environment(self) -> Mapping[str, str]:
        """Where the SDK looks for the engine."""
        return os.environ

    def _inspected(self, reference: str) -> dict[str, Any] | None:
        """What the engine says of an image; None if it does not have it."""
        socket = self._socket()
        if socket is not None:
            return engine.image(socket, reference)
        api = self._api
        import docker

        try:
            found = dict(api.inspect_image(reference))
        except docker.errors.ImageNotFound:
            return None
        return found if engine.is_image(found) else None

    def _pulled(self, spec: ContainerSpec, expected: str | None) -> "_Image":
        """Fetch an image by name, or by the expected digest if the name moved on."""
        if self._offline:
            raise Offline(f"image {spec.image} is not here, and this works offline, as asked")
        self._pull(spec, spec.image)
        found = self._present(expected, spec.image)
        if found is None and expected:
            # Registries know no configurations by their digests, but manifests.
            with suppress(InvalidContainer):
                self._pull(spec, _by_digest(spec.image, expected))
            found = self._present(expected, spec.image)
        found = found or self._present(None, spec.image)
        if found is None:
            raise MedPerfError(f"image {spec.image} is not here after it was pulled")
        return found

    def _pull(self, spec: ContainerSpec, reference: str) -> None:
        import docker

        with _engine_trouble(f"image {reference} cannot be pulled", Unsupported):
            try:
                for event in self._api.pull(reference, stream=True, decode=True):
                    if "error" in event:
                        raise _no_pull(spec, event["error"])
                    self._show(reference, event)
            except docker.errors.APIError as error:
                raise _no_pull(spec, error.explanation or str(error)) from error

    def _create(self, name: str, job: Job, image: str, mounts: list[Mount]) -> None:
        api = self._api
        api.create_container(
            f"sha256:{image}",
            name=name,
            command=list(job.command) or None,
            # The engine's way to say that the image's own is to be forgotten.
            entrypoint=None if job.entrypoint is None else list(job.entrypoint) or [""],
            # The container's own /tmp. Its user has no passwd entry that has a name.
            environment={"HOME": TMP, "TMPDIR": TMP, "USER": USER, **job.environment},
            user=self._user,
            labels={owner.LABEL: owner.this_process()},
            host_config=api.create_host_config(**_isolation(job, mounts)),
            # Proxies in the client's configuration are its own affair, with their passwords.
            use_config_proxy=False,
        )

    def _follow(self, name: str, job: Job) -> tuple[int, bool]:
        """Start a container and write its log until it ends; exit code, and whether it had to."""
        api = self._api
        output = api.attach(name, stream=True)
        with (
            BoundedLog(job.log) as log,
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


class PodmanRunner(DockerRunner):
    """The same on Podman, by its own socket where DOCKER_HOST names no other."""

    name = "podman"

    def _socket(self) -> str | None:
        return engine.podman_socket()

    def _environment(self) -> Mapping[str, str]:
        socket = self._socket()
        return os.environ if socket is None else {**os.environ, "DOCKER_HOST": f"unix://{socket}"}


def _isolation(job: Job, mounts: list[Mount]) -> dict[str, Any]:
    """What a container is kept from, and the little it is given (for `create_host_config`)."""
    from docker.types import DeviceRequest, LogConfig

    limits = job.limits
    which = {"device_ids": list(job.gpus)} if isinstance(job.gpus, tuple) else {"count": job.gpus}
    gpus = None if job.gpus is None else [DeviceRequest(capabilities=[["gpu"]], **which)]
    return {
        "network_mode": "none",
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        # What it writes into its image's own folders goes with the container.
        "read_only": limits.read_only_root,
        "mounts": [_mount(mount) for mount in mounts],
        "pids_limit": limits.pids,
        "mem_limit": limits.memory_bytes,
        # Memory and swap together: no swap beside the memory.
        "memswap_limit": limits.memory_bytes,
        "shm_size": job.shm_size,
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


def _mount(mount: Mount) -> Any:
    from docker import types

    return types.Mount(mount.mount_path, str(mount.path), type="bind", read_only=mount.read_only)


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


def _by_digest(name: str, digest: str) -> str:
    """What a registry calls an image of a repository that has a manifest of that digest."""
    name = name.partition("@")[0]
    head, colon, tag = name.rpartition(":")
    # A colon before a slash is a port's.
    return f"{head if colon and '/' not in tag else name}@sha256:{digest}"


def _no_pull(spec: ContainerSpec, words: str) -> MedPerfError:
    message = f"image {spec.image} cannot be pulled: {words}"
    if _MAY_PASS.search(words):
        return Offline(message, hint="Try again when the image registry can be reached.")
    if _OTHER_PROCESSOR.search(words):
        hint = "It is made for other processors. Ask the container's owner for one for this."
    else:
        hint = f"Check 'image' in {spec.source}; a private registry needs `docker login` first."
    return InvalidContainer(message, hint)


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
