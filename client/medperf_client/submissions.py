"""What a member sends: containers, benchmarks, association requests and decisions on them."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medperf_cache import Catalog, Storage
from medperf_client.assets import Fetcher
from medperf_client.compatibility import Report
from medperf_client.containers.runner import Runner
from medperf_client.containers.spec import DOCKER_IMAGE, PROCESS, ContainerSpec, parse
from medperf_client.errors import InvalidContainer, Offline, Unsupported
from medperf_client.registry import Registry
from medperf_client.wire import checked

Entity = dict[str, Any]
DEVELOPMENT, OPERATION = "DEVELOPMENT", "OPERATION"
PENDING, APPROVED, REJECTED = "PENDING", "APPROVED", "REJECTED"


@dataclass(frozen=True)
class Submission:
    """One write to the registry. Its `key` makes it happen once, however often it is sent.

    `kind` is the type of the entity in the answer, as the catalog names it.
    """

    kind: str
    method: str
    path: str
    body: Entity
    key: str = field(default_factory=lambda: str(uuid.uuid4()))


def send(submission: Submission, registry: Registry, catalog: Catalog) -> Entity:
    """Send a submission; the entity it made or changed is in the catalog afterwards.

    Raises `Refused` with the registry's words, or `Offline`.
    """
    write = registry.post if submission.method == "POST" else registry.put
    answer = write(submission.path, submission.body, submission.key)
    if submission.kind == "association" and isinstance(answer, dict) and "id" not in answer:
        # A plain MedPerf server may say no more; the next pull lists it.
        return answer
    entity = checked(submission.kind, answer)
    catalog.put(submission.kind, entity)
    return entity


@dataclass(frozen=True)
class HostedFiles:
    """Where a container's files are hosted, and the SHA-256 of those whose owner gave it."""

    config_url: str
    parameters_url: str = ""
    additional_url: str = ""
    parameters_hash: str = ""
    additional_hash: str = ""
    image_hash: str = ""


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

    def submission(self, name: str, files: HostedFiles, operational: bool) -> Submission:
        """A new container, every URL of it fetched once.

        Raises `Offline` for a file that cannot be had and has no hash given, `WrongHash`,
        `InvalidContainer`, `UnsafeArchive`, and `Unsupported` for a kind this machine cannot
        check unless its image's hash is given.
        """
        config = self._fetcher.fetch(files.config_url)
        spec = parse(self._storage.blobs.path(config).read_bytes(), files.config_url)
        parameters = self._hash(files.parameters_url, files.parameters_hash)
        if parameters in self._storage.blobs:
            _refuse_page(self._storage.blobs.path(parameters), files.parameters_url)
        body = {
            "name": name,
            "git_mlcube_url": files.config_url,
            "mlcube_hash": config,
            "git_parameters_url": files.parameters_url,
            "parameters_hash": parameters,
            "additional_files_tarball_url": files.additional_url,
            "additional_files_tarball_hash": self.archive_hash(
                files.additional_url, files.additional_hash
            ),
            "image_tarball_url": "",
            "image_tarball_hash": "",
            "image_hash": self._image_hash(spec, files.image_hash),
            "state": OPERATION if operational else DEVELOPMENT,
            "is_valid": True,
            "metadata": {},
            "user_metadata": {},
        }
        return Submission("mlcube", "POST", "/mlcubes/", body)

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
            if not given:
                raise
            self._tell(f"not checked: {url} cannot be reached, its hash is taken as given")
            return given

    def _image_hash(self, spec: ContainerSpec, given: str) -> str:
        """What pins the image: its ID, or for an image that is a file the file's SHA-256."""
        if spec.kind == PROCESS:
            return self.archive_hash(spec.image, given)
        runner = self._runner_for(spec)
        try:
            runner.check(spec)
            if spec.kind == DOCKER_IMAGE:
                return runner.provide(spec, expected=given or None)
            digest = self._hash(spec.image, given)
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
    containers: dict[str, int],
    operational: bool,
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
    }
    return Submission("benchmark", "POST", "/benchmarks/", body)


def benchmark_decision(uid: int, status: str) -> Submission:
    """An administrator's APPROVED or REJECTED of a benchmark."""
    return Submission("benchmark", "PUT", f"/benchmarks/{uid}/", {"approval_status": status})


def association_submission(model: int, benchmark: int, report: Report) -> Submission:
    """A request that a model joins a benchmark, with the test that it passed."""
    body = {
        "model_mlcube": model,
        "benchmark": benchmark,
        "approval_status": PENDING,
        "metadata": test_metadata(report),
    }
    return Submission("association", "POST", "/mlcubes/benchmarks/", body)


def association_change(model: int, benchmark: int, **values: Any) -> Submission:
    """A decision on the newest association of a pair (`approval_status`), or its `priority`."""
    return Submission("association", "PUT", f"/mlcubes/{model}/benchmarks/{benchmark}/", values)


def test_metadata(report: Report) -> Entity:
    """A test as an association's metadata: MedPerf's `test_result`, and the steps behind it."""
    steps = ("step", "source", "seconds", "image_id")
    return {
        "test_result": report["results"],
        "test_steps": [{key: step[key] for key in steps} for step in report["steps"]],
    }
