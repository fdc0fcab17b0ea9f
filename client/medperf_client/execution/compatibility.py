"""The compatibility test: a benchmark's workflow on demo data, and the report of it."""

import json
import re
import reprlib
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unicodedata import normalize

from medperf_cache import Storage
from medperf_cache.scratch import remove_tree
from medperf_client.admission.lists import BENCHMARKS, CONTAINERS, PREPARATORS
from medperf_client.containers.job import Limits
from medperf_client.containers.library import Container, Input, Library
from medperf_client.containers.runner import Runner
from medperf_client.containers.spec import ContainerSpec
from medperf_client.errors import InvalidContainer, MedPerfError, Offline, Refused, UsageError
from medperf_client.execution.steps import Steps, Watch
from medperf_client.execution.workflow import Outcome, five_steps
from medperf_client.files import write_atomically
from medperf_client.kinds.benchmark import already_prepared

if TYPE_CHECKING:  # Whoever lists no logs does not pay for it.
    from medperf_cache.partials import Leftover
    from medperf_cache.private import Private

Report = dict[str, Any]
ROLES = {
    "data_preparator": "data_preparation_mlcube",
    "model": "reference_model_mlcube",
    "evaluator": "data_evaluator_mlcube",
}
# The list of a policy that has to name each, where the data are the member's own.
LISTED = {"data_preparator": PREPARATORS, "model": CONTAINERS, "evaluator": CONTAINERS}
PATHS_FILE = "paths.yaml"


@dataclass(frozen=True)
class Scenario:
    """What to test. Containers are UIDs or paths; what is None comes from the benchmark.

    Data that are `prepared` go to the checks and to the model as they are.
    """

    benchmark: int | str | None = None
    data_preparator: str | None = None
    model: str | None = None
    evaluator: str | None = None
    demo_url: str | None = None
    demo_hash: str | None = None
    data_path: Path | None = None
    labels_path: Path | None = None
    prepared: bool = False
    use_memo: bool = True

    def completed(self, benchmark: dict[str, Any]) -> "Scenario":
        """A copy with what is missing taken from a benchmark.

        Only the benchmark knows of its own demo data whether they are prepared. Raises
        `MedPerfError` if it does not say.
        """
        given: dict[str, Any] = {
            role: getattr(self, role) or str(benchmark[field]) for role, field in ROLES.items()
        }
        if self.demo_url is None and self.data_path is None:
            given["demo_url"] = benchmark["demo_dataset_tarball_url"]
            given["demo_hash"] = benchmark["demo_dataset_tarball_hash"]
            given["prepared"] = already_prepared(benchmark)
            if self.prepared and not given["prepared"]:
                raise UsageError(
                    f"the demo data of benchmark {benchmark['id']} ({benchmark['name']}) are not "
                    "prepared",
                    hint="--skip-demo-data-preparation is for data that you give yourself.",
                )
        return replace(self, **given)

    def check(self) -> None:
        """Raises `UsageError` naming the options that are missing, or contradict each other."""
        if bool(self.data_path) != bool(self.labels_path):
            raise UsageError("--data_path and --labels_path are given together")
        if self.data_path and self.demo_url:
            raise UsageError("--data_path and --demo-url name two sources of data: give one")
        if self.demo_hash and not self.demo_url:
            raise UsageError("--demo-hash is of what --demo-url names: give both")
        data = self.data_path or self.demo_url
        missing = [f"--{role}" for role in ROLES if getattr(self, role) is None]
        missing += [] if data else ["--demo-url and --demo-hash (or --data_path and --labels_path)"]
        if missing and self.benchmark is None:
            raise UsageError(f"without --benchmark, these are needed too: {', '.join(missing)}")


class CompatibilityTest:
    """Runs compatibility tests and keeps their reports.

    `entity` looks up a benchmark or container of the registry by type and UID, in a copy that
    `freshen` brings up to date. What is made of data that a member gives is kept in `private`, of
    which no bundle carries anything; on those only runs what `admit` lets in, by the list of the
    policy that has to name it. Demo data are nobody's.
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
        private: "Callable[[], Private]",
        admit: Callable[[str, Report], None],
        tell: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._admit = admit
        self._storage, self._library = storage, library
        self._entity, self._freshen = entity, freshen
        self._runner_for, self._limits, self._reports = runner_for, limits, reports
        self._private, self._tell = private, tell

    def run(self, request: Scenario, watch: Watch = lambda step, moment: None) -> Report:
        """Run the test and return its report, which is stored too.

        Raises what the steps raise; the report of the failure is stored all the same.
        """
        request.check()
        with self._storage.in_use():
            request, containers, given = self._collect(request)
            report = self._reports.begin(request, containers, given)
            steps = Steps(
                self._storage,
                self._runner_for,
                self._reports.logs(report),
                self._limits,
                request.use_memo,
                watch,
                self._tell,
                self._private() if request.data_path else None,
            )
            try:
                outcome = five_steps(
                    steps,
                    containers["data_preparator"],
                    containers["model"],
                    containers["evaluator"],
                    given,
                    request.prepared,
                )
                report.update(self._findings(outcome))
            except Exception as error:
                report["error"] = str(error)
                raise
            finally:
                report["steps"] = [step.record() for step in steps.finished]
                self._reports.save(report)
        return report

    def _collect(
        self, request: Scenario, retry: bool = True
    ) -> tuple[Scenario, dict[str, Container], dict[str, Input]]:
        """The scenario with nothing missing, its containers and its data, all at hand."""
        complete = request
        if request.benchmark is not None:
            benchmark = self._entity("benchmark", request.benchmark)
            complete = request.completed(benchmark)
            if request.data_path:
                self._admit(BENCHMARKS, benchmark)
        if request.data_path:
            for role, listed in LISTED.items():
                self._admit(listed, self._described(getattr(complete, role)))
        try:
            containers = {role: self._container(getattr(complete, role)) for role in ROLES}
            return complete, containers, self._data(complete)
        except (Offline, Refused):
            if not retry or request.benchmark is None:
                raise
        # Where the files are may change even in OPERATION, and the copy may not know yet.
        with suppress(MedPerfError):
            self._freshen()
        return self._collect(request, retry=False)

    def _container(self, reference: str) -> Container:
        """A container by UID, or by the path of its configuration."""
        entity = self._registered(reference)
        return (
            self._library.local(Path(reference))
            if entity is None
            else self._library.registered(entity)
        )

    def _described(self, reference: str) -> Report:
        """What a policy goes by: of a container on this disk, what its files are."""
        entity = self._registered(reference)
        return self._library.described(Path(reference)) if entity is None else entity

    def _registered(self, reference: str) -> Report | None:
        """A container of the registry by UID; None for the path of one that is on this disk."""
        if re.fullmatch("q?[0-9]{1,18}", reference):
            return self._entity("mlcube", int(reference) if reference.isdecimal() else reference)
        if not Path(reference).exists():
            raise UsageError(
                f"{reference!r} is neither a container's UID nor a file",
                hint="See: medperf container ls",
            )
        return None

    def _data(self, request: Scenario) -> dict[str, Input]:
        """The data of a test, raw or prepared, by the names of their volumes."""
        if request.data_path and request.labels_path:
            paths = {"data_path": request.data_path, "labels_path": request.labels_path}
            given = {name: self._folder(path, f"--{name}") for name, path in paths.items()}
        else:
            assert request.demo_url is not None
            digest = self._library.unpacked(request.demo_url, request.demo_hash)
            given = self._demo_data(self._storage.trees.path(digest), request.demo_url)
        # As in MedPerf: whoever counts prepared data finds a folder of metadata in any case.
        return {"metadata_path": self._empty_folder(), **given} if request.prepared else given

    def _empty_folder(self) -> Input:
        with self._storage.scratch() as area:
            empty = area / "empty"
            empty.mkdir()
            digest = self._storage.trees.adopt(empty)
        return Input(self._storage.trees.path(digest), digest)

    def _findings(self, outcome: Outcome) -> Report:
        prepared = outcome.prepared
        return {
            "generated_uid": self._storage.fingerprints.folder_hash(
                prepared.data.path, prepared.labels.path
            ),
            "statistics": read_yaml(prepared.statistics.path, "what statistics wrote"),
            "results": read_yaml(outcome.results.path, "what evaluate wrote"),
            "passed": True,
        }

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
        folder = _as_spelt(base, name).resolve()
        return folder if folder.is_relative_to(root.resolve()) and folder.is_dir() else None
    except (OSError, ValueError):
        # What is no file's name: it holds a zero byte, or is too long.
        return None


def _as_spelt(base: Path, name: str) -> Path:
    """A path below `base`; where there is none, the one whose accents are composed otherwise.

    macOS packs "é" as a letter and an accent, and editors write it as one character.
    """
    path = base
    for step in Path(name).parts:
        known = path / step
        if not known.exists() and path.is_dir():
            composed = {normalize("NFC", entry.name): entry for entry in path.iterdir()}
            known = composed.get(normalize("NFC", step), known)
        path = known
    return path


def read_yaml(path: Path, what: str) -> dict[str, Any]:
    """A file that holds a mapping, in YAML or JSON, as values of JSON.

    Raises `InvalidContainer` naming `what` if it does not.
    """
    # Imported late: a test that fails early does not pay for it.
    from medperf_client import strict_yaml

    try:
        with open(path, "rb") as file:
            content = strict_yaml.read_results(file.read(strict_yaml.MOST_BYTES + 1))
    except (ValueError, TypeError, RecursionError) as error:
        raise InvalidContainer(f"{what} cannot be read as YAML: {error}") from error
    if not isinstance(content, dict):
        raise InvalidContainer(f"{what}: expected a mapping, found {str(content)[:80]!r}")
    return content


class Reports:
    """Reports of compatibility tests, one JSON file each, with the logs of what ran."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def begin(
        self, request: Scenario, containers: dict[str, Container], given: dict[str, Input]
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
            "already_prepared": request.prepared,
            "given_data": {name: one.digest for name, one in given.items()},
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
        return [_read_report(path) for path in sorted(self._folder.glob("*.json"), key=_moment)]

    def get(self, uid: str) -> Report:
        """A report by UID; `latest` is the newest. Raises `UsageError` if there is none."""
        return _read_report(self._path(uid))

    def remove(self, uid: str) -> None:
        """Delete a report, however damaged, with its logs. Raises `UsageError` if there is none."""
        path = self._path(uid)
        # First, for without its report nobody could name them.
        remove_tree(path.with_suffix(""))
        path.unlink(missing_ok=True)

    def kept_logs(self) -> "Iterator[Leftover]":
        """What containers printed in tests, also in those that were killed and have no report."""
        from medperf_cache.partials import Leftover

        for path in sorted(self._folder.glob("*/*.log")):
            # Another process may be removing it.
            with suppress(FileNotFoundError):
                status = path.stat()
                yield Leftover("log", str(path), status.st_size, status.st_mtime)

    def clean_logs(
        self, unused_for_seconds: float | None = None, most_bytes: int | None = None
    ) -> "list[Leftover]":
        """Delete logs of that age, then the oldest until no more than `most_bytes` are left.

        Returns what was deleted. No test may run meanwhile.
        """
        logs = sorted(self.kept_logs(), key=lambda log: log.used)
        oldest = 0.0 if unused_for_seconds is None else time.time() - unused_for_seconds
        left = sum(log.size_bytes for log in logs)
        removed = []
        for log in logs:
            # Where there is no room at all, empty ones go too.
            too_much = most_bytes is not None and (left > most_bytes or most_bytes == 0)
            if log.used < oldest or too_much:
                left -= log.size_bytes
                removed.append(log)
                Path(log.name).unlink(missing_ok=True)
                # With the last one goes the folder.
                with suppress(OSError):
                    Path(log.name).parent.rmdir()
        return removed

    def _path(self, uid: str) -> Path:
        if uid == "latest":
            newest = max(self._folder.glob("*.json"), key=_moment, default=None)
        else:
            path = self._folder / f"{uid}.json"
            known = re.fullmatch(r"[0-9a-f-]+", uid) and path.is_file()
            newest = path if known else None
        if newest is None:
            raise UsageError(f"there is no test {uid!r}", hint="See: medperf test ls")
        return newest


def _moment(path: Path) -> tuple[str, int]:
    """When a report was made: its name has the second, and of those of one second files tell."""
    return path.name[: len("20260101-000000")], path.stat().st_mtime_ns


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
