"""One step of a benchmark: a container's task on content, run once and then remembered by it."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from medperf_cache import Storage
from medperf_cache.memo import memo_key
from medperf_client.containers.job import Job, Limits, called
from medperf_client.containers.library import Container, Input
from medperf_client.containers.runner import Runner
from medperf_client.containers.spec import ContainerSpec, Task
from medperf_client.errors import InvalidContainer, MedPerfError, Unsupported

# A step that is remembered pays for nothing that runs one.
if TYPE_CHECKING:
    from medperf_cache.blobs import BlobStore
    from medperf_cache.private import Private
    from medperf_cache.trees import TreeStore
    from medperf_client.execution.work import Work

MEMO_FORMAT = 1

Moment = Literal["queued", "start", "ran", "cached", "failed"]
# Called with a step's name for people, and what happens to it.
Watch = Callable[[str, Moment], None]
# Does a step, here or elsewhere; see `execution.work.perform`.
Perform = Callable[["Work"], dict[str, Any]]


def step_key(image_id: str, task: Mapping[str, Any], inputs: Mapping[str, str]) -> str:
    """What a step is remembered by: the SHA-256 of all that decides what it gives.

    `task` is the task as its configuration writes it (`Task.fingerprint`), `inputs` the digests of
    what it reads, by volume. Whoever has these has the key: no cache or engine is asked.
    """
    return memo_key(
        {"format": MEMO_FORMAT, "image": image_id, "task": dict(task), "inputs": dict(inputs)}
    )


@dataclass(frozen=True)
class Step:
    """A finished step. `seconds` is how long it took when it ran, `ran` whether that was now.

    `model` is the name of the model that it is about, empty for the steps of preparation.
    `signed_by` is the SHA-256 of the public key of who vouches for it, where it ran elsewhere.
    `failed` says how it failed, if its outputs are what it had written until then. `engine` is what
    ran it (`Runner.name`), empty where that was not noted. `parts` is how many jobs shared its
    cases, 0 where one did them all.
    """

    name: str
    container: str
    image_id: str
    ran: bool
    seconds: float
    inputs: Mapping[str, str]
    outputs: Mapping[str, Input]
    model: str = ""
    signed_by: str = ""
    failed: str = ""
    engine: str = ""
    parts: int = 0

    def output(self, name: str) -> Input:
        """An output by its volume's name. Raises `InvalidContainer` if the task defines none."""
        if name not in self.outputs:
            raise InvalidContainer(
                f"{self.container}: tasks.{self.name}.output_volumes must define {name}"
            )
        return self.outputs[name]

    def record(self) -> dict[str, Any]:
        """The step as a report shows it."""
        return {
            "step": self.name,
            **({"model": self.model} if self.model else {}),
            "container": self.container,
            "source": "ran" if self.ran else "cache",
            **({"signed_by": self.signed_by} if self.signed_by else {}),
            **({"failed": self.failed} if self.failed else {}),
            **({"engine": self.engine} if self.engine else {}),
            **({"parts": self.parts} if self.parts else {}),
            "seconds": round(self.seconds, 3),
            "image_id": self.image_id,
            "inputs": dict(self.inputs),
            "outputs": {name: given.digest for name, given in self.outputs.items()},
        }


@dataclass(frozen=True)
class AskedStep:
    """A step that somebody asks for, see `Steps.take`."""

    container: Container
    task: Task
    inputs: Mapping[str, Input]
    model: str = ""
    may_fail: bool = False

    @property
    def called(self) -> str:
        """What people are shown of it."""
        return called(self.task.name, self.model)

    @property
    def digests(self) -> dict[str, str]:
        """The digest of each input, by its volume."""
        return {name: given.digest for name, given in self.inputs.items()}

    def key(self, image_id: str) -> str:
        """See `step_key`."""
        return step_key(image_id, self.task.fingerprint(), self.digests)

    def step(
        self, image_id: str, ran: bool, record: Mapping[str, Any], outputs: Mapping[str, Input]
    ) -> Step:
        """The step once it is done, by its record."""
        return Step(
            name=self.task.name,
            container=self.container.name,
            image_id=image_id,
            ran=ran,
            seconds=record["seconds"],
            inputs=self.digests,
            outputs=outputs,
            model=self.model,
            signed_by=record.get("signed_by", ""),
            failed=record.get("failed", ""),
            engine=record.get("engine", ""),
            parts=record.get("parts", 0),
        )


class Steps:
    """Runs steps, or answers from what the same step gave before.

    `logs` is the folder for what containers print, a file a task: who runs the same task several
    times gives each a `Steps` with a folder of its own. `finished` holds the steps so far, also
    when a later one raised. `watch` is told what happens, `tell` gets lines for people. Steps on a
    member's own data are kept in `private`, and answered from there alone. `perform` does what has
    to be done; None does it in this process.
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
        private: "Private | None" = None,
        perform: Perform | None = None,
    ) -> None:
        self._storage, self._runner_for, self._logs = storage, runner_for, logs
        self._elsewhere = perform
        self._limits, self._use_memo, self._watch = limits, use_memo, watch
        self._tell, self._told, self._swept = tell, set[str](), set[str]()
        self._private, self._results = private, private or storage
        self.finished: list[Step] = []

    def take(
        self,
        name: str,
        container: Container,
        offered: Mapping[str, Input],
        model: str = "",
        may_fail: bool = False,
    ) -> Step:
        """One step: the container's task of that name on what is offered to it.

        `model` names the model that the step is about, for people. One that `may_fail` gives what
        it wrote before it failed, see `Step.failed`, and is not remembered then. Raises
        `ContainerFailed`, `InvalidContainer`, `Unsupported`, `Offline`, `WrongHash`, and
        `MedPerfError` if a local file changed meanwhile.
        """
        asked = asked_step(name, container, offered, model, may_fail)
        runner = self._runner_for(container.spec)
        image_id = self._image_id(container, runner)
        step = self._recall(asked, image_id) if image_id and self._use_memo else None
        self._watch(called(name, model), "cached" if step else "start")
        if step is None:
            with self._watched(asked):
                step = self._execute(asked, runner)
            moment: Moment = "failed" if step.failed else "ran" if step.ran else "cached"
            self._watch(asked.called, moment)
        self.finished.append(step)
        return step

    def work(
        self,
        name: str,
        container: Container,
        offered: Mapping[str, Input],
        places: Mapping[str, Path],
    ) -> Step:
        """A step that goes on with what it finds in its outputs, which lie at `places` and stay.

        It is never remembered: people may have changed what is there. Raises as `take` does.
        """
        from medperf_cache.trees import make_writable
        from medperf_client.execution.jobs import execute

        asked = asked_step(name, container, offered)
        runner = self._runner_for(container.spec)
        self._watch(asked.called, "start")
        with self._watched(asked), self._results.scratch() as scratch:
            image_id = runner.provide(container.spec, container.archive, container.expected_image)
            self._sweep(runner)
            work = self._work(asked, runner, image_id, scratch, places)
            work.make_places()
            for path in work.places.values():
                make_writable(path) if path.is_dir() else path.chmod(0o600)
            started = time.monotonic()
            execute(work.job)
            seconds = time.monotonic() - started
            work.check()
            digest = self._storage.fingerprints.digest
            made = [volume.name for volume in asked.task.outputs]
            outputs = {name: Input(places[name], digest(places[name])) for name in made}
            record = {"seconds": seconds, "engine": runner.name}
            step = asked.step(image_id, True, record, outputs)
        self._watch(asked.called, "ran")
        self.finished.append(step)
        return step

    @contextmanager
    def _watched(self, asked: "AskedStep") -> Iterator[None]:
        """Tell who watches if the block fails."""
        try:
            yield
        except BaseException:
            self._watch(asked.called, "failed")
            raise

    def _image_id(self, container: Container, runner: Runner) -> str | None:
        """The ID of a container's image, if it can be told; an engine is asked what is not known.

        What it was registered with may be the digest of a manifest.
        """
        expected = container.expected_image
        known = self._storage.images.id_of(expected) if expected else None
        try:
            found = known or runner.image_id(container.spec, container.archive, expected)
        except Unsupported:
            # What is remembered needs no engine.
            found = None
        return found or expected

    def _recall(self, asked: AskedStep, image_id: str) -> Step | None:
        record = self._results.memo.get(asked.key(image_id))
        if record is None:
            return None
        outputs = {}
        for name, (kind, digest) in record["outputs"].items():
            store = self._store(kind)
            if digest not in store:
                return None
            outputs[name] = Input(store.path(digest), digest)
        return asked.step(image_id, False, record, outputs)

    def _execute(self, asked: AskedStep, runner: Runner) -> Step:
        container = asked.container
        image_id = runner.provide(container.spec, container.archive, container.expected_image)
        self._sweep(runner)
        with self._results.scratch() as scratch:
            # Which image it is may be known only now that it was fetched.
            known = self._recall(asked, image_id) if self._use_memo else None
            if known is not None:
                return known
            work = self._work(asked, runner, image_id, scratch)
            if self._elsewhere is None:
                from medperf_client.execution.work import perform

                record = perform(work)
            else:
                record = self._elsewhere(work)
            self._check_unchanged(asked.inputs)
            return self._keep(asked, image_id, record, work.places)

    def _work(
        self,
        asked: AskedStep,
        runner: Runner,
        image_id: str,
        scratch: Path,
        places: Mapping[str, Path] | None = None,
    ) -> "Work":
        """A step as something to be done; its outputs lie at `places`, or in its scratch folder."""
        from medperf_client.execution.work import Work

        outputs = asked.task.outputs
        if places is None:
            (scratch / "outputs").mkdir()
            places = {volume.name: scratch / "outputs" / volume.name for volume in outputs}
        self._announce(runner)
        self._lend(asked.inputs)
        job = Job.of(
            runner.name,
            asked.task,
            runner.local_id(asked.container.spec, image_id),
            {name: given.path for name, given in asked.inputs.items()},
            places,
            self._log(asked.task.name),
            model=asked.model,
            archive=runner.local_file(asked.container.spec, image_id, asked.container.archive),
            limits=self._limits,
            scratch=scratch,
        )
        return Work(job, outputs, asked.may_fail, asked.key(image_id))

    def _sweep(self, runner: Runner) -> None:
        """Once, delete what tasks of killed clients wrote; first end what still writes there."""
        if runner.name not in self._swept:
            self._swept.add(runner.name)
            runner.sweep()
            self._results.sweep()

    def _announce(self, runner: Runner) -> None:
        """Say once what a person must know before a task runs on this platform."""
        warning = runner.warning(self._limits)
        if warning and runner.name not in self._told:
            self._told.add(runner.name)
            self._tell(warning)

    def _log(self, task: str) -> Path:
        self._logs.mkdir(parents=True, exist_ok=True, mode=0o700)
        return self._logs / f"{task}.log"

    def _is_kept(self, given: Input) -> bool:
        """Whether an input is content that is kept here, and not a local file."""
        private = self._private is not None and given.path.is_relative_to(self._private.content)
        return private or self._storage.keeps(given.path)

    def _lend(self, inputs: Mapping[str, Input]) -> None:
        """Have a container's own copies of what is kept be its own to change."""
        from medperf_cache.trees import lend

        for given in inputs.values():
            if self._is_kept(given):
                lend(given.path)

    def _check_unchanged(self, inputs: Mapping[str, Input]) -> None:
        """Local inputs are read where they lie: a result of files that changed is void."""
        for name, given in inputs.items():
            if (
                not self._is_kept(given)
                and given.digest_now(self._storage.fingerprints) != given.digest
            ):
                raise MedPerfError(
                    f"{name} ({given.path}) changed while a container read it",
                    hint="Nothing was kept. Run it again once the files are settled.",
                )

    def _keep(
        self,
        asked: AskedStep,
        image_id: str,
        record: Mapping[str, Any],
        made: Mapping[str, Path],
    ) -> Step:
        """Move outputs to where they stay, and remember the step."""
        outputs = {}
        for name, (kind, digest) in record["outputs"].items():
            store = self._store(kind)
            store.publish(made[name], digest)
            outputs[name] = Input(store.path(digest), digest)
        if not record.get("failed"):
            self._results.memo.put(asked.key(image_id), dict(record))
        return asked.step(image_id, True, record, outputs)

    def _store(self, kind: str) -> "BlobStore | TreeStore":
        return self._results.blobs if kind == "file" else self._results.trees


def asked_step(
    name: str,
    container: Container,
    offered: Mapping[str, Input],
    model: str = "",
    may_fail: bool = False,
) -> AskedStep:
    task = container.spec.task(name)
    return AskedStep(container, task, _inputs(container, task, offered), model, may_fail)


def _inputs(container: Container, task: Task, offered: Mapping[str, Input]) -> dict[str, Input]:
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
        if given.is_folder != (volume.kind == "directory"):
            found = "directory" if given.path.is_dir() else "file"
            raise InvalidContainer(f"{container.name}: {key}.type: expected {found}")
        chosen[volume.name] = given
    return chosen
