"""What a container is made of, fetched, checked and hashed before it is submitted."""

from collections.abc import Callable
from pathlib import Path

from medperf_cache import Storage
from medperf_client.containers.hosting import HostedFiles
from medperf_client.containers.runner import Runner
from medperf_client.containers.spec import DOCKER_IMAGE, PROCESS, ContainerSpec, load
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
        body = {
            "name": name,
            "git_mlcube_url": files.config_url,
            "mlcube_hash": found(
                "mlcube_hash",
                files.config_url,
                lambda: self._hash(files.config_url, files.config_hash),
            ),
            "git_parameters_url": files.parameters_url,
            "parameters_hash": found(
                "parameters_hash", files.parameters_url, lambda: self._parameters_hash(files)
            ),
            "additional_files_tarball_url": files.additional_url,
            "additional_files_tarball_hash": found(
                "additional_files_tarball_hash",
                files.additional_url,
                lambda: self.archive_hash(files.additional_url, files.additional_hash),
            ),
            "image_tarball_url": files.image_url,
            "image_tarball_hash": "",
            "image_hash": "",
            image: found(image, "the image", lambda: self._image_hash(files)),
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

    def archive_hash(self, url: str, given: str = "") -> str:
        """The SHA-256 of an archive that unpacks; the `given` one if it cannot be reached."""
        digest = self._hash(url, given)
        if digest and digest in self._storage.blobs:
            self._storage.trees.unpack(self._storage.blobs.path(digest), digest)
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
            _refuse_page(self._storage.blobs.path(digest), files.parameters_url)
        return digest

    def _image_hash(self, files: HostedFiles) -> str:
        """What pins the image: its ID, or for an image that is a file the file's SHA-256."""
        given = files.image_hash
        config = self._hash(files.config_url, files.config_hash)
        if config not in self._storage.blobs:
            if not given:
                raise Offline(f"{files.config_url} cannot be reached, so its image is not known")
            return given
        spec = load(self._storage.blobs.path(config), files.config_url)
        url = files.image_url or spec.image
        if spec.kind == PROCESS:
            return self.archive_hash(url, given)
        runner = self._runner_for(spec)
        try:
            runner.check(spec)
            if spec.kind == DOCKER_IMAGE:
                return runner.provide(spec, expected=given or None)
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
    """Raise `InvalidContainer` for the page that a captive portal answers with for any file."""
    with open(file, "rb") as content:
        start = content.read(1024).lstrip(b"\xef\xbb\xbf \t\r\n")
    if start.startswith(b"<"):
        raise InvalidContainer(
            f"{url} is a page to look at, not a file of parameters",
            hint="Check the URL; for GitHub it is that of the raw file.",
        )
