"""The compatibility test: a benchmark's workflow on demo data, and the report of it."""

import re
import reprlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any, NoReturn
from unicodedata import normalize

from medperf_cache import Storage
from medperf_client.admission.lists import BENCHMARKS, CONTAINERS, PREPARATORS
from medperf_client.containers.job import Limits
from medperf_client.containers.library import Container, Input, Library, called, config_of
from medperf_client.containers.runner import Runner
from medperf_client.containers.spec import ContainerSpec
from medperf_client.errors import InvalidContainer, MedPerfError, Offline, Refused, UsageError
from medperf_client.execution.parallel import one_at_a_time
from medperf_client.execution.reports import Report, Reports, new_uid
from medperf_client.execution.several import TROUBLE, Turn, take, take_queued
from medperf_client.execution.steps import Perform, Step, Steps, Watch
from medperf_client.execution.used import Used, together
from medperf_client.execution.workflow import (
    Outcome,
    Prepared,
    evaluation,
    five_steps,
    inspection,
    preparation,
)
from medperf_client.kinds import Entity
from medperf_client.kinds.benchmark import already_prepared

if TYPE_CHECKING:
    from medperf_cache.private import Private
    from medperf_client.execution.plan import Plan
    from medperf_client.executors.following import Following
    from medperf_client.executors.local import Local

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


@dataclass(frozen=True)
class Tested:
    """What became of one of several models: the report of its test, and what that raised.

    One that did not come to its test has a report without a UID, which is not stored. `used` is
    what its own steps took, where they ran now and that was measured.
    """

    model: str | None
    report: Report
    error: Exception | None = None
    used: Used | None = None

    @property
    def is_cached(self) -> bool:
        """Whether nothing had to run for it."""
        steps = self.report["steps"]
        return self.error is None and all(step["source"] == "cache" for step in steps)


@dataclass(frozen=True)
class _Ground:
    """What tests of several models have in common, and the models that were looked at.

    `steps` prepared the data; `names` are those of plans for a queue.
    """

    request: Scenario
    containers: Mapping[str, Container]
    given: Mapping[str, Input]
    prepared: Prepared
    steps: Sequence[Step]
    watch: Watch
    names: list[str]
    models: dict[str | None, Container] = field(default_factory=dict)


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
        reports: Reports,
        private: "Callable[[], Private]",
        admit: Callable[[str, Entity], None],
        tell: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._admit = admit
        self._storage, self._library = storage, library
        self._entity, self._freshen = entity, freshen
        self._runner_for, self._limits, self._reports = runner_for, limits, reports
        self._private, self._tell = private, tell
        # Several models may be tested at once.
        self._one = RLock()

    def run(self, request: Scenario, watch: Watch = lambda step, moment: None) -> Report:
        """Run the test and return its report, which is stored too.

        Raises what the steps raise; the report of the failure is stored all the same.
        """
        request.check()
        with self._storage.in_use():
            request, containers, given = self._collect(request)
            report = self._reports.begin(request, containers, given)

            def work(steps: Steps) -> Outcome:
                return five_steps(
                    steps,
                    containers["data_preparator"],
                    containers["model"],
                    containers["evaluator"],
                    given,
                    request.prepared,
                )

            self._report(report, Steps(**self._means(request, report["uid"], watch)), work)
        return report

    def called(self, model: str) -> tuple[int | str, str]:
        """What a model, a UID or a path, is called: its UID, if it has one, and as steps call it.

        Raises `UsageError` for what is neither.
        """
        entity = self._registered(model)
        if entity is None:
            return "", str(config_of(Path(model)))
        return entity["id"], called(entity)

    def run_several(
        self,
        request: Scenario,
        models: Sequence[str | None],
        watch: Watch = lambda step, moment: None,
        local: "Local | None" = None,
        queue: "Following | None" = None,
    ) -> Iterator[Tested]:
        """Test models in turn, each with a report of its own; the data are prepared once.

        `local` tests several at a time, and jobs of a `queue` do all that is to be done. Reports
        come as they are made, and are stored; one that fails costs only itself. None stands for
        the benchmark's own model. Raises what preparing raises.
        """
        for model in models:
            replace(request, model=model).check()
        with self._storage.in_use():
            ground = self._ground(request, one_at_a_time(watch), queue)
            turns = [
                Turn(
                    partial(self._plan, ground, model),
                    partial(self._tested, ground, model),
                    partial(self._failed, ground, model),
                )
                for model in models
            ]
            if queue is None:
                yield from take(self._storage, turns, local)
                return
            yield from take_queued(self._storage, turns, queue, ground.watch)
            # What was sent by whoever was killed, and was answered from memory by now.
            queue.executor.sweep(ground.names)

    def _ground(self, request: Scenario, watch: Watch, queue: "Following | None") -> _Ground:
        """What models have in common; the data are prepared, in the `queue` if there is one."""
        request, containers, given = self._collect(request, ("data_preparator", "evaluator"))
        means, names = self._means(request, new_uid(), watch), list[str]()

        def prepared(steps: Steps) -> Prepared:
            how = inspection if request.prepared else preparation
            return how(steps, containers["data_preparator"], given)

        def plan() -> "Plan":
            return self._planned(means, prepared, names)

        def make(perform: Perform | None, _: Sequence[Used]) -> _Ground:
            steps = Steps(**means, perform=perform)
            made = prepared(steps)
            # Each model finds it done.
            known = [replace(step, ran=False) for step in steps.finished]
            return _Ground(request, containers, given, made, known, watch, names)

        def fail(error: Exception, _: Sequence[Used]) -> NoReturn:
            raise error

        turns = [Turn(plan, make, fail)]
        (ground,) = (
            take(self._storage, turns)
            if queue is None
            else take_queued(self._storage, turns, queue, watch)
        )
        return ground

    def _planned(
        self, means: Mapping[str, Any], work: Callable[[Steps], Any], names: list[str]
    ) -> "Plan":
        # Imported late: what runs on this machine plans nothing.
        from medperf_client.execution.plan import Plan

        plan = Plan(**means)
        work(plan)
        names.append(plan.name)
        return plan

    def _plan(self, ground: _Ground, model: str | None) -> "Plan":
        # Nothing is printed by what is only planned.
        means = self._means(ground.request, "", ground.watch)
        return self._planned(means, partial(self._evaluated, ground, model), ground.names)

    def _tested(
        self,
        ground: _Ground,
        model: str | None,
        perform: Perform | None,
        used: Sequence[Used],
    ) -> Tested:
        containers = {**ground.containers, "model": self._model(ground, model)}
        report = self._reports.begin(ground.request, containers, ground.given)
        means = self._means(ground.request, report["uid"], ground.watch)
        steps = Steps(**means, perform=perform)
        steps.finished += ground.steps
        try:
            self._report(report, steps, partial(self._evaluated, ground, model))
        except TROUBLE as error:
            return Tested(model, report, error, together(used))
        return Tested(model, report, None, together(used))

    def _failed(
        self, ground: _Ground, model: str | None, error: Exception, _: Sequence[Used]
    ) -> Tested:
        report: Report = {
            "uid": None,
            "benchmark": ground.request.benchmark,
            "model": {"name": model, "uid": None},
            "passed": False,
            "steps": [],
            "error": str(error),
        }
        return Tested(model, report, error)

    def _evaluated(self, ground: _Ground, model: str | None, steps: Steps) -> Outcome:
        prepared, container = ground.prepared, self._model(ground, model)
        evaluator = ground.containers["evaluator"]
        made = evaluation(steps, container, evaluator, prepared.data, prepared.labels)
        return Outcome(prepared, made.results)

    def _model(self, ground: _Ground, model: str | None) -> Container:
        """A model, looked at once: what is planned is what is taken in."""
        with self._one:
            if model not in ground.models:
                request = replace(ground.request, model=model)
                _, found, _ = self._collect(request, ("model",), ground.given)
                ground.models[model] = found["model"]
            return ground.models[model]

    def _report(self, report: Report, steps: Steps, work: Callable[[Steps], Outcome]) -> None:
        """Have `work` take steps, and store in the report what came of them, however it ends."""
        try:
            report.update(self._findings(work(steps)))
        except Exception as error:
            report["error"] = str(error)
            raise
        finally:
            report["steps"] = [step.record() for step in steps.finished]
            self._reports.save(report)

    def _means(self, request: Scenario, uid: str, watch: Watch) -> dict[str, Any]:
        """What steps are taken with; `uid` is that of their report."""
        return {
            "storage": self._storage,
            "runner_for": self._runner_for,
            "logs": self._reports.logs(uid),
            "limits": self._limits,
            "use_memo": request.use_memo,
            "watch": watch,
            "tell": self._tell,
            "private": self._private() if request.data_path else None,
        }

    def _collect(
        self,
        request: Scenario,
        roles: Sequence[str] = tuple(ROLES),
        given: Mapping[str, Input] | None = None,
        retry: bool = True,
    ) -> tuple[Scenario, dict[str, Container], Mapping[str, Input]]:
        """The scenario with nothing missing, containers of these roles and the data, at hand."""
        complete = request
        if request.benchmark is not None:
            benchmark = self._entity("benchmark", request.benchmark)
            complete = request.completed(benchmark)
            if request.data_path:
                self._admit(BENCHMARKS, benchmark)
        if request.data_path:
            for role in roles:
                self._admit(LISTED[role], self._described(getattr(complete, role)))
        try:
            containers = {role: self._container(getattr(complete, role)) for role in roles}
            return complete, containers, self._data(complete) if given is None else given
        except (Offline, Refused):
            if not retry or request.benchmark is None:
                raise
        # Where the files are may change even in OPERATION, and the copy may not know yet.
        with suppress(MedPerfError):
            self._freshen()
        return self._collect(request, roles, given, retry=False)

    def _container(self, reference: str) -> Container:
        """A container by UID, or by the path of its configuration."""
        entity = self._registered(reference)
        return (
            self._library.local(Path(reference))
            if entity is None
            else self._library.registered(entity)
        )

    def _described(self, reference: str) -> Entity:
        """What a policy goes by: of a container on this disk, what its files are."""
        entity = self._registered(reference)
        return self._library.described(Path(reference)) if entity is None else entity

    def _registered(self, reference: str) -> Entity | None:
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
