"""What a member sends: containers, benchmarks, association requests and decisions on them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medperf_cache import Storage
from medperf_cache.outbox import Reference
from medperf_client.assets import Fetcher
from medperf_client.compatibility import Report
from medperf_client.containers.runner import Runner
from medperf_client.containers.spec import DOCKER_IMAGE, PROCESS, ContainerSpec, load
from medperf_client.errors import InvalidContainer, Offline, Unsupported
from medperf_client.hosting import HostedFiles
from medperf_client.kinds import Entity, in_path

DEVELOPMENT, OPERATION = "DEVELOPMENT", "OPERATION"
PENDING, APPROVED, REJECTED = "PENDING", "APPROVED", "REJECTED"


@dataclass(frozen=True)
class Submission:
    """One write to the registry.

    `kind` is the type of the entity in the answer, as the catalog names it. `unknown` maps fields
    of the body that cannot be known without a network to the URL they come from. `uploads` are
    files of the cache, by SHA-256, that the registry stores before.
    """

    kind: str
    method: str
    path: str
    body: Entity
    unknown: dict[str, str] = field(default_factory=dict)
    uploads: tuple[str, ...] = ()


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
        return Submission("mlcube", "POST", "/mlcubes/", body, unknown)

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


def benchmark_submission(
    *,
    name: str,
    description: str,
    docs_url: str,
    demo_url: str,
    demo_hash: str,
    containers: dict[str, Reference],
    operational: bool,
    private: bool,
    report: Report,
) -> Submission:
    """A new benchmark, with the test of its whole workflow. `containers` are UIDs by field."""
    body = {
        "name": name,
        "description": description,
        "docs_url": docs_url,
        "demo_dataset_tarball_url": demo_url,
        "demo_dataset_tarball_hash": demo_hash,
        "demo_dataset_generated_uid": report["prepared_data"],
        **containers,
        "state": OPERATION if operational else DEVELOPMENT,
        "is_valid": True,
        "is_active": True,
        "metadata": test_metadata(report),
        "user_metadata": {},
        **({"is_private": True} if private else {}),
    }
    return Submission("benchmark", "POST", "/benchmarks/", body)


def benchmark_decision(uid: Reference, status: str, seen: str | None = None) -> Submission:
    """An administrator's APPROVED or REJECTED of a benchmark.

    `seen` is the digest of what they looked at, see `approval.content_digest`: if the benchmark is
    another by then, the registry refuses.
    """
    body = {"approval_status": status, **({"seen": seen} if seen else {})}
    return Submission("benchmark", "PUT", f"/benchmarks/{in_path(uid)}/", body)


def benchmark_invitation(uid: Reference, email: str) -> Submission:
    """Show a private benchmark to the member with this address."""
    return Submission("member", "POST", f"/benchmarks/{in_path(uid)}/members/", {"email": email})


def association_submission(model: Reference, benchmark: Reference, report: Report) -> Submission:
    """A request that a model joins a benchmark, with the test that it passed."""
    body = {
        "model_mlcube": model,
        "benchmark": benchmark,
        "approval_status": PENDING,
        "metadata": test_metadata(report),
    }
    return Submission("association", "POST", "/mlcubes/benchmarks/", body)


def association_change(model: Reference, benchmark: Reference, **values: Any) -> Submission:
    """A change of the newest association of a pair: `approval_status`, `reason`, `priority`.

    With `id` it is that of the association that is meant: the registry refuses if a newer one is
    there by then.
    """
    path = f"/mlcubes/{in_path(model)}/benchmarks/{in_path(benchmark)}/"
    return Submission("association", "PUT", path, values)


def test_metadata(report: Report) -> Entity:
    """A test as an association's metadata: MedPerf's `test_result`, and the steps behind it."""
    told = ("step", "source", "signed_by", "seconds", "image_id")
    return {
        "test_result": report["results"],
        "test_steps": [{key: step[key] for key in told if key in step} for step in report["steps"]],
    }
