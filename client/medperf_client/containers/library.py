"""From a UID or a path to a container whose files are all here."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from medperf_cache import Storage
from medperf_client.containers.spec import (
    DOCKER_IMAGE,
    IMAGE_FILES,
    PROCESS,
    ContainerSpec,
    load,
)
from medperf_client.errors import InvalidContainer, Refused
from medperf_client.kinds.form import Entity
from medperf_client.transfer.fetcher import Fetcher

if TYPE_CHECKING:
    from medperf_cache.fingerprints import Fingerprints


@dataclass(frozen=True)
class Input:
    """A file or folder that steps read, with its digest (see `medperf_cache.digests`).

    With `names` it is a folder that has only those entries of the one at `path`.
    """

    path: Path
    digest: str
    names: tuple[str, ...] | None = field(default=None, kw_only=True)

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder, and not a file."""
        return self.path.is_dir()

    def digest_now(self, fingerprints: "Fingerprints") -> str:
        """Its digest as it is now. Raises what `Fingerprints.digest` does."""
        if self.names is None:
            return fingerprints.digest(self.path)
        return fingerprints.parts(self.path, [self.names])[0]


@dataclass(frozen=True)
class Container:
    """A container with its files.

    `expected_image` is the image ID it was registered with; `archive` the local copy of an image
    that is a file (an unpacked folder for a process).
    """

    name: str
    uid: int | None
    spec: ContainerSpec
    parameters: Input | None = None
    additional_files: Input | None = None
    expected_image: str | None = None
    archive: Path | None = None

    def provides(self) -> dict[str, Input]:
        """The inputs that come with the container, by MedPerf's volume names."""
        own = {"parameters_file": self.parameters, "additional_files": self.additional_files}
        return {name: given for name, given in own.items() if given is not None}


def pinned(entity: Entity) -> str:
    """What pins the image of a container of the registry: its ID, or its archive's SHA-256."""
    return str(entity["image_tarball_hash"] or entity["image_hash"])


def called(entity: Entity) -> str:
    """What people are shown of a container of the registry."""
    return f"container {entity['id']} ({entity['name']})"


def config_of(path: Path) -> Path:
    """The configuration of a container on this disk, which a folder has under its usual name."""
    return path / "container_config.yaml" if path.is_dir() else path


def require_valid(entity: Entity) -> None:
    """Raise `Refused` for a container whose owner took it back: nothing is to be made with it."""
    if entity.get("is_valid") is False:
        raise Refused(
            f"{called(entity)} is marked as invalid in the registry",
            hint="Its owner took it back. Ask them what takes its place.",
        )


class Library:
    """Containers of one site: registered ones, and those on this disk.

    `refetch` asks again for images at URLs whose hash nobody registered.
    """

    def __init__(self, storage: Storage, fetcher: Fetcher, refetch: bool = False) -> None:
        self._storage, self._fetcher, self._refetch = storage, fetcher, refetch

    def registered(self, entity: Entity) -> Container:
        """A container of the registry; what is not in the cache is fetched.

        Raises `Offline`, `WrongHash`, `Refused` if its owner took it back, and
        `InvalidContainer` if its configuration is wrong.
        """
        blobs, trees = self._storage.blobs, self._storage.trees
        spec = self.spec(entity)
        parameters = additional = None
        if entity["git_parameters_url"]:
            digest = self._fetcher.fetch(entity["git_parameters_url"], entity["parameters_hash"])
            parameters = Input(blobs.path(digest), digest)
        if entity["additional_files_tarball_url"]:
            digest = self.unpacked(
                entity["additional_files_tarball_url"], entity["additional_files_tarball_hash"]
            )
            additional = Input(trees.path(digest), digest)
        return Container(
            name=called(entity),
            uid=entity["id"],
            spec=spec,
            parameters=parameters,
            additional_files=additional,
            expected_image=pinned(entity) if spec.kind == DOCKER_IMAGE else None,
            archive=self.archive(spec, entity),
        )

    def spec(self, entity: Entity) -> ContainerSpec:
        """What the configuration of a container of the registry says; fetched if need be.

        Raises what `registered` does.
        """
        require_valid(entity)
        config = self._fetcher.fetch(entity["git_mlcube_url"], entity["mlcube_hash"])
        return load(self._storage.blobs.path(config), entity["git_mlcube_url"])

    def archive(self, spec: ContainerSpec, entity: Entity) -> Path | None:
        """The image of a container of the registry if it is a file, else None."""
        return self._archive(spec, entity["image_tarball_url"] or spec.image, pinned(entity))

    def local(self, config: Path) -> Container:
        """A container on this disk: its configuration, and `workspace/` beside it."""
        config = config_of(config)
        spec = load(config)
        workspace = _workspace(config)
        return Container(
            name=str(config),
            uid=None,
            spec=spec,
            parameters=self.input(workspace / "parameters.yaml"),
            additional_files=self.input(workspace / "additional_files"),
            archive=self._local_archive(spec, config.parent),
        )

    def described(self, config: Path) -> Entity:
        """What a registry would say of the files of a container on this disk, as far as it can be.

        Its image and additional files are packed when it is registered: they have no digest yet.
        """
        config = config_of(config)
        files = {"mlcube_hash": config, "parameters_hash": _workspace(config) / "parameters.yaml"}
        found = {name: self.input(path) for name, path in files.items()}
        return {"name": str(config)} | {name: one.digest for name, one in found.items() if one}

    def input(self, path: Path) -> Input | None:
        """A local file or folder, read again only if its status changed; None if there is none."""
        path = path.resolve()
        return Input(path, self._storage.fingerprints.digest(path)) if path.exists() else None

    def unpacked(self, url: str, expected: str | None = None) -> str:
        """The digest of the folder that the archive at `url` holds."""
        known = self._storage.trees.unpacked(expected) if expected else None
        if known is not None:
            return known
        digest = self._fetcher.fetch(url, expected)
        return self._storage.trees.unpack(self._storage.blobs.path(digest), digest, name=url)

    def _archive(self, spec: ContainerSpec, url: str, expected: str | None) -> Path | None:
        if spec.kind == PROCESS:
            return self._storage.trees.path(self.unpacked(url, expected))
        if spec.kind in IMAGE_FILES:
            return self._storage.blobs.path(self._fetcher.fetch(url, expected))
        return None

    def _local_archive(self, spec: ContainerSpec, folder: Path) -> Path | None:
        if spec.kind not in (PROCESS, *IMAGE_FILES):
            return None
        if "://" in spec.image:
            return self._archive(spec, spec.image, self._remembered(spec.image))
        path = (folder / spec.image).resolve()
        given = self.input(path)
        if given is None:
            raise InvalidContainer(f"{spec.source}: image: there is no {path}")
        trees = self._storage.trees
        if spec.kind == PROCESS and path.is_dir():
            return trees.path(given.digest if given.digest in trees else trees.copy(path))
        if spec.kind == PROCESS:
            return trees.path(trees.unpack(path, given.digest, name=str(path)))
        return path

    def _remembered(self, url: str) -> str:
        """The SHA-256 of what `url` held when it was first asked for."""
        known = None if self._refetch else self._storage.names.get(url)
        if known is None:
            known = self._fetcher.fetch(url)
            self._storage.names.put(url, known)
        return known


def _workspace(config: Path) -> Path:
    """Where the files are that a configuration on this disk has beside it."""
    return config.parent / "workspace"
