"""A benchmark's models on a dataset of this site: each outcome is there the moment it is made."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any

from medperf_cache import Storage
from medperf_cache.fingerprints import Progress, silent
from medperf_cache.private import Private
from medperf_client.containers.job import Limits
from medperf_client.containers.library import Container, Input, Library, called
from medperf_client.containers.runner import Runner
from medperf_client.containers.spec import ContainerSpec
from medperf_client.errors import MedPerfError, Unsupported
from medperf_client.execution.awaited import Awaited, AwaitedModels
from medperf_client.execution.compatibility import read_yaml
from medperf_client.execution.parallel import one_at_a_time
from medperf_client.execution.parts import Cases
from medperf_client.execution.results import Result, Results
from medperf_client.execution.several import Turn, take, take_queued
from medperf_client.execution.steps import Perform, Steps, Watch
from medperf_client.execution.used import Used, together
from medperf_client.execution.workflow import Evaluated, evaluation
from medperf_client.kinds import Entity
from medperf_client.kinds.container import PINS

if TYPE_CHECKING:
    from medperf_client.execution.plan import Plan
    from medperf_client.executors.following import Following
    from medperf_client.executors.local import Local


@dataclass(frozen=True)
class Outcome:
    """What became of one model: a `result`, or an `error`; `is_cached` if nothing had to run.

    `logs` is the folder of what its containers printed, `used` what it took, where it ran now and
    that was measured.
    """

    model: int | str
    name: str
    result: Result | None
    is_cached: bool
    error: str
    logs: Path
    used: Used | None = None

    @property
    def called(self) -> str:
        """As `library.called` has the model."""
        return called({"id": self.model, "name": self.name})

    def record(self) -> dict[str, Any]:
        """The same as JSON."""
        return {
            "model": self.model,
            "name": self.name,
            "result": self.result.uid if self.result else None,
            "results": self.result.results if self.result else None,
            "partial": self.result.partial if self.result else None,
            "from_cache": self.is_cached,
            "error": self.error or None,
            "logs": str(self.logs),
            "used": self.used.record() if self.used else None,
        }


@dataclass(frozen=True)
class Asked:
    """What to evaluate: a benchmark with its metrics, and a dataset's prepared data and labels.

    It is `ordered` if nobody but a standing order asks for it.
    """

    benchmark: int | str
    evaluator: Entity
    dataset: int | str
    data: Input
    labels: Input
    logs: Path
    use_memo: bool = True
    may_fail: bool = False
    ordered: bool = False

    def made_of(self, model: Entity) -> str:
        """SHA-256 of all that decides what a model gives here."""
        parts = {
            "model": [model.get(name) for name in PINS],
            "evaluator": [self.evaluator.get(name) for name in PINS],
            "data": self.data.digest,
            "labels": self.labels.digest,
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def awaited(self, model: Entity, element: str, folder: Path) -> Awaited:
        """What is noted of a model that an element of a queue evaluates, which is in a folder."""
        options = (self.use_memo, self.may_fail, self.ordered)
        return Awaited(element, self.benchmark, self.dataset, model["id"], *options, str(folder))


class Evaluations:
    """Runs models on the data of a member, and keeps what they give.

    `admit` raises for a container that may not run on them. All that one makes of such data is kept
    in `private`.
    """

    def __init__(
        self,
        admit: Callable[[Entity], None],
        storage: Storage,
        library: Library,
        runner_for: Callable[[ContainerSpec], Runner],
        limits: Limits,
        private: Private,
        results: Results,
        watch: Watch = lambda step, moment: None,
        tell: Callable[[str], None] = lambda line: None,
        progress: Progress = silent,
    ) -> None:
        self._admit, self._progress = admit, progress
        self._storage, self._library, self._runner_for = storage, library, runner_for
        self._limits, self._private, self._results = limits, private, results
        self._watch, self._tell = one_at_a_time(watch), tell
        # Several models may be evaluated at once.
        self._one, self._evaluators = RLock(), dict[int | str, Container]()

    def run(
        self, asked: Asked, models: Sequence[Entity], executor: "Local | None" = None
    ) -> Iterator[Outcome]:
        """Evaluate each model in turn, or several at a time; see `several.take`."""
        yield from take(self._storage, self._turns(asked, models), executor)

    def run_queued(
        self,
        asked: Asked,
        models: Sequence[Entity],
        following: "Following",
        awaited: AwaitedModels,
        wait: bool = True,
        fails: bool = True,
    ) -> Iterator[Outcome]:
        """Have each model evaluated by a job of a queue; see `several.take_queued`.

        What was sent by whoever was killed counts as run anew, should that be asked for. What is
        left to the queue by whoever stops in the midst of this, or does not `wait`, `awaited` has.
        Where the queue takes nothing of what is left, or does not tell of it, that fails; or unless
        `fails`, for who tries again later, it is raised as `MedPerfError`.
        """
        executor = following.executor
        if asked.use_memo:
            executor.sweep(self._done(asked), awaited.anew())

        def sent(model: Entity, element: str) -> None:
            awaited.add(asked.awaited(model, element, executor.folder))

        def over(model: Entity, element: str) -> None:
            awaited.drop(asked.awaited(model, element, executor.folder))

        def left(model: Entity) -> list[str]:
            return awaited.elements(asked.awaited(model, "", executor.folder))

        awaited.bind()
        most = executor.cases_per_job
        cases = Cases(most, self._storage.fingerprints, self._progress) if most else None
        turns = [
            replace(
                turn,
                sent=partial(sent, model),
                over=partial(over, model),
                left=partial(left, model),
                in_one=partial(self._plan, asked, model, None),
            )
            for model, turn in zip(models, self._turns(asked, models, cases), strict=True)
        ]
        stopped: list[MedPerfError] = []
        refused = stopped.append if fails else None
        yield from take_queued(self._storage, turns, following, self._watch, wait, refused)
        if stopped:
            self._tell(stopped[0].hint or str(stopped[0]))
            return
        # Also what was sent by whoever was killed, and was answered from memory by now.
        executor.sweep(self._done(asked), awaited.anew())

    def _turns(
        self, asked: Asked, models: Sequence[Entity], cases: Cases | None = None
    ) -> list[Turn[Outcome]]:
        known = self._known(asked)
        return [
            Turn(
                partial(self._plan, asked, model, cases),
                partial(self._made, asked, model, known),
                partial(self._failed, asked, model),
                self._at_hand(asked, model, known),
            )
            for model in models
        ]

    def _done(self, asked: Asked) -> list[str]:
        """What the whole results here are made of."""
        known = self._known(asked)
        return [made_of for (_, made_of), one in known.items() if not one.partial]

    def _plan(self, asked: Asked, model: Entity, cases: Cases | None) -> "Plan":
        """What of a model is to be done. Raises `PartsFirst` where parts of it come first."""
        # Imported late: what runs on this machine, or has run, plans nothing.
        from medperf_client.execution.plan import Plan

        plan = Plan(
            **self._means(asked, self._logs(asked, model)),
            made_of=asked.made_of(model),
            cases=cases,
        )
        self._workflow(plan, asked, model)
        return plan

    def _at_hand(
        self, asked: Asked, model: Entity, known: Mapping[tuple[int | str, str], Result]
    ) -> Outcome | None:
        """The outcome of a model that has a result here, which says what is asked for."""
        earlier = known.get((model["id"], asked.made_of(model))) if asked.use_memo else None
        if earlier is None or (earlier.partial and not asked.may_fail):
            return None
        return Outcome(model["id"], model["name"], earlier, True, "", self._logs(asked, model))

    def _failed(
        self, asked: Asked, model: Entity, error: Exception, used: Sequence[Used]
    ) -> Outcome:
        logs, taken = self._logs(asked, model), together(used)
        return Outcome(model["id"], model["name"], None, False, str(error), logs, taken)

    def _logs(self, asked: Asked, model: Entity) -> Path:
        return asked.logs / f"b{asked.benchmark}m{model['id']}"

    def missing(self, asked: Asked, models: Sequence[Entity]) -> list[Entity]:
        """The models that have no result here, or only a partial one that is not asked for."""
        known = self._known(asked)
        return [model for model in models if self._at_hand(asked, model, known) is None]

    def _known(self, asked: Asked) -> Mapping[tuple[int | str, str], Result]:
        """The results here of this benchmark and dataset, by model and what they are made of."""
        return {
            (one.model, one.made_of): one
            for one in self._results.all()
            if (one.benchmark, one.dataset) == (asked.benchmark, asked.dataset)
        }

    def _made(
        self,
        asked: Asked,
        model: Entity,
        known: Mapping[tuple[int | str, str], Result],
        perform: Perform | None,
        used: Sequence[Used],
    ) -> Outcome:
        logs = self._logs(asked, model)
        steps = Steps(**self._means(asked, logs), perform=perform)
        made, taken = self._workflow(steps, asked, model), together(used)
        result = Result(
            name="",
            benchmark=asked.benchmark,
            model=model["id"],
            dataset=asked.dataset,
            results=read_yaml(made.results.path, "what evaluate wrote"),
            made_of=asked.made_of(model),
            partial=bool(made.failed),
            predictions=made.predictions.digest,
            local_outputs=made.local_outputs.digest if made.local_outputs else "",
            steps=[step.record() for step in steps.finished],
            ordered=asked.ordered,
            used=taken.record() if taken else None,
        )
        with self._one:
            kept = self._results.add(result, known.values())
        is_cached = not any(step.ran for step in steps.finished)
        return Outcome(model["id"], model["name"], kept, is_cached, "", logs, taken)

    def _means(self, asked: Asked, logs: Path) -> dict[str, Any]:
        """What steps are taken with."""
        return {
            "storage": self._storage,
            "runner_for": self._runner_for,
            "logs": logs,
            "limits": self._limits,
            "use_memo": asked.use_memo,
            "watch": self._watch,
            "tell": self._tell,
            "private": self._private,
        }

    def _workflow(self, steps: Steps, asked: Asked, model: Entity) -> Evaluated:
        self._admit(asked.evaluator)
        self._admit(model)
        evaluator = self._evaluator(asked.evaluator)
        container = self._library.registered(model)
        return evaluation(steps, container, evaluator, asked.data, asked.labels, asked.may_fail)

    def _evaluator(self, entity: Entity) -> Container:
        """A metrics container, looked at once it is needed: where all is known, nobody does."""
        with self._one:
            if entity["id"] not in self._evaluators:
                self._evaluators[entity["id"]] = self._library.registered(entity)
            return self._evaluators[entity["id"]]


def laid_out(private: Private, result: Result, folder: Path) -> Path:
    """Copy the predictions of a result for people to look at; the folder that holds them.

    Raises `Unsupported` if they are not kept here.
    """
    import shutil

    from medperf_cache.trees import make_writable

    if result.predictions not in private.trees:
        raise Unsupported(f"the predictions of {result.uid} are not here any more")
    place = folder / result.uid
    shutil.copytree(private.trees.path(result.predictions), place, symlinks=True)
    make_writable(place)
    return place
