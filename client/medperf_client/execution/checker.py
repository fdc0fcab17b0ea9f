"""What a container is made of, fetched, checked and hashed before it is submitted."""

from collections.abc import Callable
from pathlib import Path

from medperf_cache import Storage
from medperf_cache.signatures import PAGE, POINTER, XML, ZIP, ZSTD, described
from medperf_client.containers.hosting import HostedFiles
from medperf_client.containers.runner import Runner
from medperf_client.containers.spec import DOCKER_IMAGE, PROCESS, RAW_HINT, ContainerSpec, load
from medperf_client.errors import InvalidContainer, Offline, Unsupported
from medperf_client.kinds import CONTAINER, Entity
from medperf_client.kinds.submission import DEVELOPMENT, OPERATION, Submission
from medperf_client.transfer.fetcher import Fetcher


class ContainerChecker:
    """Fetches what a container is made of, and checks and hashes it.

    `tell` gets a line for everything that could not be checked.
    """

    def __init__(
        self,
        storage: Storage,
        fetcher: Fetcher,
        runner_for: Callable[[ContainerSpec], Runner],
        tell: Callable[[str], None],
    ) -> None:
        self._storage, self._fetcher = storage, fetcher
        self._runner_for, self._tell = runner_for, tell

    def submission(
        self, name: str, files: HostedFiles, operational: bool, may_wait: bool = True
    ) -> Submission:
        """A new container, every URL of it fetched once.

        What cannot be had now and has no hash given is noted as unknown, to be found out when it
        is sent; with `may_wait` false it raises `Offline`. Raises `WrongHash`,
        `InvalidContainer`, `UnsafeArchive`, and `Unsupported` for a kind this machine cannot
        check unless its image's hash is given.
        """
        unknown: dict[str, str] = {}

        def found(field: str, source: str, find: Callable[[], str]) -> str:
            try:
                return find()
            except Offline:
                if not may_wait:
                    raise
                unknown[field] = source
                self._tell(f"not known yet: {field}, from {source}; it is found out at sync")
                return ""

        image = "image_tarball_hash" if files.image_url else "image_hash"
        config = found(
            "mlcube_hash",
            files.config_url,
            lambda: self._hash(files.config_url, files.config_hash),
        )
        body = {
            "name": name,
            "git_mlcube_url": files.config_url,
            "mlcube_hash": config,
            "git_parameters_url": files.parameters_url,
            "parameters_hash": found(
                "parameters_hash", files.parameters_url, lambda: self._parameters_hash(files)
            ),
            "additional_files_tarball_url": files.additional_url,
            "additional_files_tarball_hash": found(
                "additional_files_tarball_hash",
                files.additional_url,
                lambda: self.archive_hash(
                    files.additional_url,
                    files.additional_hash,
                    files.called(files.additional_url),
                ),
            ),
            "image_tarball_url": files.image_url,
            "image_tarball_hash": "",
            "image_hash": "",
            image: found(image, "the image", lambda: self._image_hash(files, config)),
            "state": OPERATION if operational else DEVELOPMENT,
            "is_valid": True,
            "metadata": {},
            "user_metadata": {},
        }
        return Submission(CONTAINER.name, "POST", CONTAINER.path, body, unknown)

    def completed(self, body: Entity) -> Entity:
        """The body of a container with all its hashes. Raises `Offline` if one cannot be had."""
        files = HostedFiles(
            config_url=body["git_mlcube_url"],
            config_hash=body["mlcube_hash"],
            parameters_url=body["git_parameters_url"],
            parameters_hash=body["parameters_hash"],
            additional_url=body["additional_files_tarball_url"],
            additional_hash=body["additional_files_tarball_hash"],
            image_url=body["image_tarball_url"],
            image_hash=body["image_tarball_hash"] or body["image_hash"],
        )
        operational = body["state"] == OPERATION
        found = self.submission(body["name"], files, operational, may_wait=False).body
        return {**body, **{key: value for key, value in found.items() if key.endswith("_hash")}}

    def archive_hash(self, url: str, given: str = "", name: str = "") -> str:
        """The SHA-256 of an archive that unpacks; the `given` one if it cannot be reached.

        `name` is what people call it, if not by its URL.
        """
        digest, name = self._hash(url, given), name or url
        if digest and digest in self._storage.blobs:
            file = self._storage.blobs.path(digest)
            for kind in (ZIP, ZSTD):
                if kind.begins(file):
                    self._tell(f"{name} is {kind.words}: MedPerf's own client cannot read it")
            self._storage.trees.unpack(file, digest, name=name)
        return digest

    def _hash(self, url: str, given: str) -> str:
        if not url:
            return ""
        try:
            return self._fetcher.fetch(url, given or None)
        except Offline:
            seen = self._fetcher.remembered(url)
            if given:
                self._tell(f"not checked: {url} cannot be reached, its hash is taken as given")
                return given
            if seen is None:
                raise
            self._tell(f"not checked: {url} cannot be reached, it is taken as it was last seen")
            return seen

    def _parameters_hash(self, files: HostedFiles) -> str:
        digest = self._hash(files.parameters_url, files.parameters_hash)
        if digest in self._storage.blobs:
            file = self._storage.blobs.path(digest)
            _refuse_page(file, files.called(files.parameters_url))
        return digest

    def _image_hash(self, files: HostedFiles, config: str) -> str:
        """What pins the image that the configuration of this SHA-256 names: its ID, or for an
        image that is a file the file's SHA-256.
        """
        given = files.image_hash
        if config not in self._storage.blobs:
            if not given:
                raise Offline(f"{files.config_url} cannot be reached, so its image is not known")
            return given
        spec = load(self._storage.blobs.path(config), files.called(files.config_url))
        url = files.image_url or spec.image
        if spec.kind == PROCESS:
            return self.archive_hash(url, given, files.called(url))
        runner = self._runner_for(spec)
        try:
            runner.check(spec)
            if spec.kind == DOCKER_IMAGE:
                # One image has several digests, and whoever gave one wants that registered.
                found = runner.provide(spec, expected=given or None)
                return given or found
            digest = self._hash(url, given)
            if digest in self._storage.blobs:
                runner.provide(spec, self._storage.blobs.path(digest))
            return digest
        except (Offline, Unsupported) as error:
            if not given:
                raise
            self._tell(f"not checked: {error}")
            return given


def _refuse_page(file: Path, url: str) -> None:
    """Raise `InvalidContainer` for what is answered in place of any file."""
    kind = described(file)
    if kind in (PAGE, XML, POINTER):
        raise InvalidContainer(f"{url} is {kind}: no file of parameters", RAW_HINT)
