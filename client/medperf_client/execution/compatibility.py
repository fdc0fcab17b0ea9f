"""The compatibility test: a benchmark's workflow on demo data, and the report of it."""

import json
import re
import reprlib
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from medperf_cache import Storage
from medperf_client.containers.library import Container, Input, Library
from medperf_client.containers.runner import Limits, Runner
from medperf_client.containers.spec import ContainerSpec
from medperf_client.errors import InvalidContainer, MedPerfError, Offline, Refused, UsageError
from medperf_client.execution.workflow import Outcome, Watch, Workflow
from medperf_client.files import write_atomically

Report = dict[str, Any]
ROLES = {
    "data_preparator": "data_preparation_mlcube",
    "model": "reference_model_mlcube",
    "evaluator": "data_evaluator_mlcube",
}
PATHS_FILE = "paths.yaml"


@dataclass(frozen=True)
class Scenario:
    """What to test. Containers are UIDs or paths; what is None comes from the benchmark."""

    benchmark: int | str | None = None
    data_preparator: str | None = None
    model: str | None = None
    evaluator: str | None = None
    demo_url: str | None = None
    demo_hash: str | None = None
    data_path: Path | None = None
    labels_path: Path | None = None
    use_memo: bool = True

    def completed(self, benchmark: dict[str, Any]) -> "Scenario":
        """A copy with what is missing taken from a benchmark."""
        given: dict[str, Any] = {
            role: getattr(self, role) or str(benchmark[field]) for role, field in ROLES.items()
        }
        if self.demo_url is None:
            given["demo_url"] = benchmark["demo_dataset_tarball_url"]
            given["demo_hash"] = benchmark["demo_dataset_tarball_hash"]
        return replace(self, **given)

    def check(self) -> None:
        """Raises `UsageError` naming the options that are missing."""
        if bool(self.data_path) != bool(self.labels_path):
            raise UsageError("--data_path and --labels_path are given together")
        data = self.data_path or self.demo_url
        missing = [f"--{role}" for role in ROLES if getattr(self, role) is None]
        missing += [] if data else ["--demo-url and --demo-hash (or --data_path and --labels_path)"]
        if missing and self.benchmark is None:
            raise UsageError(f"without --benchmark, these are needed too: {', '.join(missing)}")


class CompatibilityTest:
    """Runs compatibility tests and keeps their reports.

    `entity` looks up a benchmark or container of the registry by type and UID, in a copy that
    `freshen` brings up to date.
    """

    def __init__(
        self,
        storage: Storage,
        library: Library,
        entity: Callable[[str, int | str], dict[str, Any]],
        freshen: Callable[[], None],
        runner_for: Callable[[ContainerSpec], Runner],
        limits: Limits,
        reports: "Reports",
        tell: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._storage, self._library = storage, library
        self._entity, self._freshen = entity, freshen
        self._runner_for, self._limits, self._reports = runner_for, limits, reports
        self._tell = tell

    def run(self, request: Scenario, watch: Watch = lambda step, moment: None) -> Report:
        """Run the test and return its report, which is stored too.

        Raises what the workflow raises; the report of the failure is stored all the same.
        """
        request.check()
        with self._storage.in_use():
            request, containers, raw = self._collect(request)
            report = self._reports.begin(request, containers, raw)
            workflow = Workflow(
                self._storage,
                self._runner_for,
                self._reports.logs(report),
                self._limits,
                request.use_memo,
                watch,
                self._tell,
            )
            try:
                outcome = workflow.run(
                    containers["data_preparator"],
                    containers["model"],
                    containers["evaluator"],
                    raw,
                )
                report.update(_findings(outcome))
            except Exception as error:
                report["error"] = str(error)
                raise
            finally:
                report["steps"] = [step.record() for step in workflow.finished]
                self._reports.save(report)
        return report

    def _collect(
        self, request: Scenario, retry: bool = True
    ) -> tuple[Scenario, dict[str, Container], dict[str, Input]]:
        """The scenario with nothing missing, its containers and its raw data, all at hand."""
        complete = request
        if request.benchmark is not None:
            complete = request.completed(self._entity("benchmark", request.benchmark))
        try:
            containers = {role: self._container(getattr(complete, role)) for role in ROLES}
            return complete, containers, self._raw_data(complete)
        except (Offline, Refused):
            if not retry or request.benchmark is None:
                raise
        # Where the files are may change even in OPERATION, and the copy may not know yet.
        with suppress(MedPerfError):
            self._freshen()
        return self._collect(request, retry=False)

    def _container(self, reference: str) -> Container:
        """A container by UID, or by the path of its configuration."""
        if re.fullmatch("q?[0-9]{1,18}", reference):
            uid = int(reference) if reference.isdecimal() else reference
            return self._library.registered(self._entity("mlcube", uid))
        if not Path(reference).exists():
            raise UsageError(
                f"{reference!r} is neither a container's UID nor a file",
                hint="See: medperf container ls",
            )
        return self._library.local(Path(reference))

    def _raw_data(self, request: Scenario) -> dict[str, Input]:
        if request.data_path and request.labels_path:
            given = {"data_path": request.data_path, "labels_path": request.labels_path}
            return {name: self._folder(path, f"--{name}") for name, path in given.items()}
        assert request.demo_url is not None
        digest = self._library.unpacked(request.demo_url, request.demo_hash)
        return self._demo_data(self._storage.trees.path(digest), request.demo_url)

    def _folder(self, path: Path, what: str) -> Input:
        found = self._library.input(path)
        if found is None or not found.path.is_dir():
            raise UsageError(f"{what}: {path} is not a folder")
        return found

    def _demo_data(self, root: Path, url: str) -> dict[str, Input]:
        """The folders that a demo dataset's `paths.yaml` names.

        An archive may hold everything in one top folder, as MedPerf's own do.
        """
        folders = [root, *(entry for entry in sorted(root.iterdir()) if entry.is_dir())]
        base = next((folder for folder in folders if (folder / PATHS_FILE).is_file()), None)
        if base is None:
            raise InvalidContainer(f"the demo data of {url} hold no {PATHS_FILE}")
        paths = read_yaml(base / PATHS_FILE, f"{PATHS_FILE} of {url}")
        named: dict[str, Input] = {}
        for name in ("data_path", "labels_path", "metadata_path"):
            if name == "metadata_path" and name not in paths:
                continue
            folder = _folder_in(root, base, str(paths.get(name, "")))
            if name not in paths or folder is None:
                raise InvalidContainer(
                    f"{PATHS_FILE} of {url}: {name}: expected a folder of the archive, "
                    f"found {reprlib.repr(paths.get(name))}"
                )
            named[name] = self._folder(folder, name)
        return named


def _folder_in(root: Path, base: Path, name: str) -> Path | None:
    """The folder of that name below `base`, if it is one and does not leave `root`."""
    try:
        folder = (base / name).resolve()
        return folder if folder.is_relative_to(root.resolve()) and folder.is_dir() else None
    except (OSError, ValueError):
        # What is no file's name: it holds a zero byte, or is too long.
        return None


def read_yaml(path: Path, what: str) -> dict[str, Any]:
    """A YAML file that holds a mapping. Raises `InvalidContainer` naming `what` if it does not."""
    # Imported late: a test that fails early does not pay for it.
    from medperf_client import strict_yaml

    try:
        with open(path, "rb") as file:
            content = strict_yaml.read(file.read(strict_yaml.MOST_BYTES + 1))
        # Through JSON, so that dates and keys that are no text cannot break a report later.
        text = json.dumps(content, default=str)
    except (ValueError, TypeError, RecursionError) as error:
        raise InvalidContainer(f"{what} cannot be read as YAML: {error}") from error
    if not isinstance(content, dict):
        raise InvalidContainer(f"{what}: expected a mapping, found {str(content)[:80]!r}")
    # What is not a number, such as the AUROC of one class, is a word in JSON.
    return dict(json.loads(text, parse_constant=str))


def _findings(outcome: Outcome) -> Report:
    return {
        "prepared_data": outcome.prepared.outputs["output_path"].digest,
        "statistics": read_yaml(outcome.statistics, "what statistics wrote"),
        "results": read_yaml(outcome.results, "what evaluate wrote"),
        "passed": True,
    }


class Reports:
    """Reports of compatibility tests, one JSON file each, with the logs of what ran."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def begin(
        self, request: Scenario, containers: dict[str, Container], raw: dict[str, Input]
    ) -> Report:
        """A report that says what is tested, with a UID that sorts by time."""
        now = datetime.now(timezone.utc)
        return {
            "uid": f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}",
            "created_at": now.isoformat(timespec="seconds"),
            "benchmark": request.benchmark,
            **{
                role: {"name": container.name, "uid": container.uid}
                for role, container in containers.items()
            },
            "demo_dataset_hash": None if request.data_path else request.demo_hash,
            "raw_data": {name: given.digest for name, given in raw.items()},
            "passed": False,
        }

    def logs(self, report: Report) -> Path:
        """The folder for the output of the containers that a test runs."""
        return self._folder / str(report["uid"])

    def save(self, report: Report) -> None:
        """Store a report. Raises `MedPerfError` if it cannot be written."""
        write_atomically(self._folder / f"{report['uid']}.json", json.dumps(report, indent=1))

    def all(self) -> list[Report]:
        """Every report, oldest first."""
        return [_read_report(path) for path in sorted(self._folder.glob("*.json"))]

    def get(self, uid: str) -> Report:
        """A report by UID; `latest` is the newest. Raises `UsageError` if there is none."""
        if uid == "latest":
            newest = max(self._folder.glob("*.json"), default=None)
        else:
            path = self._folder / f"{uid}.json"
            known = re.fullmatch(r"[0-9a-f-]+", uid) and path.is_file()
            newest = path if known else None
        if newest is None:
            raise UsageError(f"there is no test {uid!r}", hint="See: medperf test ls")
        return _read_report(newest)


def _read_report(path: Path) -> Report:
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(report, dict) or not {"uid", "steps", "passed", *ROLES} <= report.keys():
            raise ValueError("it is no report of a test")
    except (OSError, ValueError, RecursionError) as error:
        raise MedPerfError(
            f"the report {path} cannot be read: {error}", hint="Delete it, and run the test again."
        ) from error
    return report
