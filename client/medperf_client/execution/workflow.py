"""The steps of a benchmark: prepare, sanity_check, statistics, infer, evaluate; each by content."""

import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

from medperf_cache import Storage
from medperf_cache.memo import memo_key
from medperf_client.containers.library import Container, Input
from medperf_client.containers.runner import Job, Limits, Runner
from medperf_client.containers.spec import ContainerSpec, Task
from medperf_client.errors import ContainerFailed, InvalidContainer, MedPerfError

MEMO_FORMAT = 1
STEPS = ("prepare", "sanity_check", "statistics", "infer", "evaluate")

Moment = Literal["start", "ran", "cached", "failed"]
# Called with a step's name and what happens to it.
Watch = Callable[[str, Moment], None]


@dataclass(frozen=True)
class Step:
    """A finished step. `seconds` is how long it took when it ran, `ran` whether that was now.

    `signed_by` is the SHA-256 of the public key of who vouches for it, where it ran elsewhere.
    """

    name: str
    container: str
    image_id: str
    ran: bool
    seconds: float
    inputs: Mapping[str, str]
    outputs: Mapping[str, Input]
    signed_by: str = ""

    def record(self) -> dict[str, Any]:
        """The step as a report shows it."""
        return {
            "step": self.name,
            "container": self.container,
            "source": "ran" if self.ran else "cache",
            **({"signed_by": self.signed_by} if self.signed_by else {}),
            "seconds": round(self.seconds, 3),
            "image_id": self.image_id,
            "inputs": dict(self.inputs),
            "outputs": {name: given.digest for name, given in self.outputs.items()},
        }


@dataclass(frozen=True)
class Outcome:
    """What the five steps gave: paths of the statistics and the results (YAML), and the steps."""

    prepared: Step
    statistics: Path
    results: Path


class Workflow:
    """Runs steps, or answers from what the same step gave before.

    `finished` holds the steps so far, also when a later one raised.
    """

    def __init__(
        self,
        storage: Storage,
        runner_for: Callable[[ContainerSpec], Runner],
        logs: Path,
        limits: Limits,
        use_memo: bool = True,
        watch: Watch = lambda step, moment: None,
        tell: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._storage, self._runner_for, self._logs = storage, runner_for, logs
        self._limits, self._use_memo, self._watch = limits, use_memo, watch
        self._tell, self._told = tell, set[str]()
        self.finished: list[Step] = []

    def run(
        self, preparator: Container, model: Container, evaluator: Container, raw: dict[str, Input]
    ) -> Outcome:
        """All five steps on raw data (`data_path`, `labels_path`, perhaps `metadata_path`).

        Raises `ContainerFailed`, `InvalidContainer`, `Unsupported`, `Offline`, `WrongHash`.
        """
        # What is read as YAML in the end is not found to be a folder only then.
        _require_file(preparator, "statistics")
        _require_file(evaluator, "evaluate")
        prepared = self.step("prepare", preparator, raw)
        data = self._output(prepared, "output_path")
        labels = self._output(prepared, "output_labels_path")
        checked = {"data_path": data, "labels_path": labels}
        if "metadata_path" in prepared.outputs:
            checked["metadata_path"] = prepared.outputs["metadata_path"]
        self.step("sanity_check", preparator, checked)
        statistics = self.step("statistics", preparator, checked)
        predicted = self.step("infer", model, {"data_path": data})
        predictions = self._output(predicted, "output_path")
        evaluated = self.step("evaluate", evaluator, {"predictions": predictions, "labels": labels})
        return Outcome(
            prepared,
            self._output(statistics, "output_path").path,
            self._output(evaluated, "output_path").path,
        )

    @staticmethod
    def _output(step: Step, name: str) -> Input:
        if name not in step.outputs:
            raise InvalidContainer(
                f"{step.container}: tasks.{step.name}.output_volumes must define {name}"
            )
        return step.outputs[name]

    def step(self, name: str, container: Container, offered: dict[str, Input]) -> Step:
        """One step: the container's task of that name on what is offered to it."""
        task = container.spec.task(name)
        inputs = _inputs(container, task, offered)
        runner = self._runner_for(container.spec)
        image_id = container.expected_image or runner.image_id(container.spec, container.archive)
        step = self._recall(container, task, image_id, inputs) if image_id else None
        self._watch(name, "cached" if step else "start")
        if step is None:
            try:
                step = self._execute(runner, container, task, inputs)
            except BaseException:
                self._watch(name, "failed")
                raise
            self._watch(name, "ran")
        self.finished.append(step)
        return step

    def _recall(
        self, container: Container, task: Task, image_id: str, inputs: dict[str, Input]
    ) -> Step | None:
        record = self._storage.memo.get(_key(task, image_id, inputs)) if self._use_memo else None
        if record is None:
            return None
        outputs = {}
        for name, (kind, digest) in record["outputs"].items():
            store = self._storage.blobs if kind == "file" else self._storage.trees
            if digest not in store:
                return None
            outputs[name] = Input(store.path(digest), digest)
        digests = {name: given.digest for name, given in inputs.items()}
        seconds, signed_by = record["seconds"], record.get("signed_by", "")
        return Step(
            task.name, container.name, image_id, False, seconds, digests, outputs, signed_by
        )

    def _execute(
        self, runner: Runner, container: Container, task: Task, inputs: dict[str, Input]
    ) -> Step:
        image_id = runner.provide(container.spec, container.archive, container.expected_image)
        with self._storage.scratch() as folder:
            made = {volume.name: folder / volume.name for volume in task.outputs}
            for volume in task.outputs:
                if volume.kind == "directory":
                    made[volume.name].mkdir()
                else:
                    made[volume.name].touch()
            job = Job(
                task=task,
                image_id=image_id,
                inputs={name: given.path for name, given in inputs.items()},
                outputs=made,
                log=self._log(task.name),
                limits=self._limits,
            )
            self._announce(runner)
            started = time.monotonic()
            runner.run(job)
            seconds = time.monotonic() - started
            self._check_unchanged(inputs)
            outputs = self._keep(task, made, job.log)
        record = {
            "outputs": {name: [kind, given.digest] for name, (kind, given) in outputs.items()},
            "seconds": seconds,
            "created_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        }
        self._storage.memo.put(_key(task, image_id, inputs), record)
        digests = {name: given.digest for name, given in inputs.items()}
        kept = {name: given for name, (_, given) in outputs.items()}
        return Step(task.name, container.name, image_id, True, seconds, digests, kept)

    def _announce(self, runner: Runner) -> None:
        """Say once what a person must know before a task runs on this platform."""
        if runner.notice and runner.name not in self._told:
            self._told.add(runner.name)
            self._tell(runner.notice)

    def _log(self, task: str) -> Path:
        self._logs.mkdir(parents=True, exist_ok=True, mode=0o700)
        return self._logs / f"{task}.log"

    def _check_unchanged(self, inputs: dict[str, Input]) -> None:
        """Local inputs are read where they lie: a result of files that changed is void."""
        for name, given in inputs.items():
            local = not given.path.is_relative_to(self._storage.root)
            if local and self._storage.fingerprints.digest(given.path) != given.digest:
                raise MedPerfError(
                    f"{name} ({given.path}) changed while a container read it",
                    hint="Nothing was kept. Run the test again once the files are settled.",
                )

    def _keep(self, task: Task, made: dict[str, Path], log: Path) -> dict[str, tuple[str, Input]]:
        _check_outputs(made.values(), self._limits, f"task {task.name}")
        kept: dict[str, tuple[str, Input]] = {}
        for volume in task.outputs:
            path = made[volume.name]
            directory = volume.kind == "directory"
            if not (any(path.iterdir()) if directory else path.stat().st_size):
                raise ContainerFailed(
                    f"task {task.name} ended well, but wrote nothing to {volume.name} "
                    f"({volume.mount_path})",
                    hint=f"Its output is in {log}",
                )
            store = self._storage.trees if directory else self._storage.blobs
            digest = store.adopt(path)
            kept[volume.name] = (volume.kind, Input(store.path(digest), digest))
        return kept


def _require_file(container: Container, step: str) -> None:
    """Raise `InvalidContainer` if what a step reports would be a folder."""
    for volume in container.spec.task(step).outputs:
        if (volume.name, volume.kind) == ("output_path", "directory"):
            key = f"tasks.{step}.output_volumes.output_path.type"
            raise InvalidContainer(f"{container.name}: {key}: expected file, found directory")


def _check_outputs(paths: Iterable[Path], limits: Limits, what: str) -> None:
    """Raise `ContainerFailed` if outputs are more than their limits, before anything reads them.

    Sizes are those that a reader meets: a file of nothing but holes takes its time to hash too.
    """
    total = 0
    try:
        for count, size in enumerate(_sizes(paths), 1):
            total += size
            if total > limits.output_bytes:
                raise _too_much(f"{what} wrote more than {limits.output_bytes} bytes", "bytes")
            if count > limits.output_files:
                raise _too_much(f"{what} made more than {limits.output_files} files", "files")
    except OSError as error:
        raise ContainerFailed(f"what {what} wrote cannot be read: {error.strerror}") from error


def _too_much(said: str, unit: str) -> ContainerFailed:
    return ContainerFailed(said, hint=f"If it has to, raise the profile's output_{unit}.")


def _sizes(paths: Iterable[Path]) -> Iterator[int]:
    """The size of each path, and of all that is below it, as it is met; no link is followed."""
    folders = []
    for path in paths:
        status = path.lstat()
        yield status.st_size
        if stat.S_ISDIR(status.st_mode):
            folders.append(str(path))
    for folder in folders:
        # What a container left may be closed to its owner.
        os.chmod(folder, stat.S_IRWXU)
        with os.scandir(folder) as entries:
            for entry in entries:
                yield entry.stat(follow_symlinks=False).st_size
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)


def _inputs(container: Container, task: Task, offered: dict[str, Input]) -> dict[str, Input]:
    """What each input volume of a task reads. Raises `InvalidContainer` if nothing provides it."""
    available = {**offered, **container.provides()}
    chosen = {}
    for volume in task.inputs:
        key = f"tasks.{task.name}.input_volumes.{volume.name}"
        if volume.name not in available:
            raise InvalidContainer(
                f"{container.name}: nothing provides {key}",
                hint=f"This step provides {', '.join(sorted(available))}; parameters_file comes "
                "from workspace/parameters.yaml or --parameters-file, additional_files from "
                "workspace/additional_files/ or --additional-file.",
            )
        given = available[volume.name]
        if given.path.is_dir() != (volume.kind == "directory"):
            found = "directory" if given.path.is_dir() else "file"
            raise InvalidContainer(f"{container.name}: {key}.type: expected {found}")
        chosen[volume.name] = given
    return chosen


def _key(task: Task, image_id: str, inputs: dict[str, Input]) -> str:
    return memo_key(
        {
            "format": MEMO_FORMAT,
            "image": image_id,
            "task": task.fingerprint(),
            "inputs": {name: given.digest for name, given in inputs.items()},
        }
    )
