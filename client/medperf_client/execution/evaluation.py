"""A benchmark's models on a dataset of this site: each outcome is there the moment it is made."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any

from medperf_cache import CacheError, Storage
from medperf_cache.private import Private
from medperf_client.containers.job import Limits
from medperf_client.containers.library import Container, Input, Library
from medperf_client.containers.runner import Runner
from medperf_client.containers.spec import ContainerSpec
from medperf_client.errors import MedPerfError, Unsupported
from medperf_client.execution.awaited import Awaited, AwaitedModels
from medperf_client.execution.compatibility import read_yaml
from medperf_client.execution.parallel import as_done
from medperf_client.execution.results import Result, Results
from medperf_client.execution.steps import Moment, Perform, Steps, Watch
from medperf_client.execution.used import Used, together
from medperf_client.execution.workflow import Evaluated, evaluation
from medperf_client.kinds import Entity
from medperf_client.kinds.container import PINS

if TYPE_CHECKING:
    from medperf_client.execution.plan import Plan
    from medperf_client.executors.executor import Executor
    from medperf_client.executors.following import Following
    from medperf_client.executors.local import Local

# What concerns one model only: the others go on.
TROUBLE = (MedPerfError, CacheError, OSError)


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

    def awaited(self, model: Entity, element: str) -> Awaited:
        """What is noted of a model that an element of a queue evaluates."""
        options = (self.use_memo, self.may_fail, self.ordered)
        return Awaited(element, self.benchmark, self.dataset, model["id"], *options)


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
    ) -> None:
        self._admit = admit
        self._storage, self._library, self._runner_for = storage, library, runner_for
        self._limits, self._private, self._results = limits, private, results
        self._watch, self._tell = watch, tell
        # Several models may be evaluated at once.
        self._one, self._evaluators = RLock(), dict[int | str, Container]()

    def run(
        self, asked: Asked, models: Sequence[Entity], executor: "Local | None" = None
    ) -> Iterator[Outcome]:
        """Evaluate each model in turn; one that fails costs only itself.

        An `executor` evaluates several at a time, and their outcomes come as they are made.
        """
        known = self._known(asked) if asked.use_memo else {}
        if executor is None:
            yield from (self._outcome(asked, model, known) for model in models)
            return

        def outcome(model: Entity) -> Outcome:
            used: list[Used] = []
            perform = partial(executor.perform, note=used.append)
            return self._outcome(asked, model, known, executor.slot, perform, used)

        with executor:
            for _, ended in as_done([partial(outcome, one) for one in models], executor.slots):
                if isinstance(ended, Exception):
                    raise ended
                yield ended

    def run_queued(
        self,
        asked: Asked,
        models: Sequence[Entity],
        following: "Following",
        awaited: AwaitedModels,
        wait: bool = True,
    ) -> Iterator[Outcome]:
        """Have each model evaluated by a job of a queue; outcomes come as they are made.

        One that fails costs only itself. What was sent before, by whomever was killed, is not sent
        again, and what it gave counts as run anew, should that be asked for. Whoever stops in the
        midst of this, or does not `wait`, leaves the jobs to the queue; `awaited` has them then.
        """
        executor = following.executor
        known = self._known(asked) if asked.use_memo else {}
        if asked.use_memo:
            executor.sweep(self._done(asked))
        plans: dict[str, list[tuple[Entity, Plan]]] = {}
        for model in models:
            outcome = self._at_hand(asked, model, known)
            if outcome is None:
                try:
                    plan = self._prepared(asked, model, executor)
                except TROUBLE as error:
                    outcome = self._failed(asked, model, error)
                else:
                    if plan.planned:
                        awaited.add(asked.awaited(model, plan.name))
                        plans.setdefault(plan.name, []).append((model, plan))
                    else:
                        outcome = self._outcome(asked, model, known)
            if outcome is not None:
                yield outcome
        labels = {name: these[0][1].label for name, these in plans.items()}
        for name, trouble in following.ended(labels, self._told, wait):
            for model, plan in plans[name]:
                perform = executor.collect(plan, trouble)
                used = executor.used(name, [one.key for one in plan.planned])
                yield self._outcome(asked, model, known, perform=perform, used=used)
            executor.forget(name)
            awaited.drop(name)
        # Also what was sent by whoever was killed, and was answered from memory by now.
        executor.sweep(self._done(asked))

    def _done(self, asked: Asked) -> list[str]:
        """What the whole results here are made of."""
        known = self._known(asked)
        return [made_of for (_, made_of), one in known.items() if not one.partial]

    def _prepared(self, asked: Asked, model: Entity, executor: "Executor") -> "Plan":
        """What of a model is to be done, ready for the queue."""
        # Imported late: what runs on this machine, or has run, plans nothing.
        from medperf_client.execution.plan import Plan

        with self._storage.in_use():
            plan = Plan(
                **self._means(asked, self._logs(asked, model)),
                made_of=asked.made_of(model),
            )
            self._workflow(plan, asked, model)
            if plan.planned:
                executor.prepare(plan)
        return plan

    def _at_hand(
        self, asked: Asked, model: Entity, known: Mapping[tuple[int | str, str], Result]
    ) -> Outcome | None:
        """The outcome of a model that has a result here, which says what is asked for."""
        earlier = known.get((model["id"], asked.made_of(model)))
        if earlier is None or (earlier.partial and not asked.may_fail):
            return None
        return Outcome(model["id"], model["name"], earlier, True, "", self._logs(asked, model))

    def _outcome(
        self,
        asked: Asked,
        model: Entity,
        known: Mapping[tuple[int | str, str], Result],
        slot: Callable[[], AbstractContextManager[None]] = nullcontext,
        perform: Perform | None = None,
        used: Sequence[Used] = (),
    ) -> Outcome:
        """What becomes of a model; `used` has what its steps took once `perform` did them."""
        found = self._at_hand(asked, model, known)
        if found is not None:
            return found
        logs = self._logs(asked, model)
        try:
            with self._storage.in_use(), slot():
                made, is_cached = self._evaluated(asked, model, logs, perform, used)
            taken = together(used)
            return Outcome(model["id"], model["name"], made, is_cached, "", logs, taken)
        except TROUBLE as error:
            return self._failed(asked, model, error, used)

    def _failed(
        self, asked: Asked, model: Entity, error: Exception, used: Sequence[Used] = ()
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

    def _evaluated(
        self,
        asked: Asked,
        model: Entity,
        logs: Path,
        perform: Perform | None,
        used: Sequence[Used],
    ) -> tuple[Result, bool]:
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
            kept = self._results.add(result)
        return kept, not any(step.ran for step in steps.finished)

    def _means(self, asked: Asked, logs: Path) -> dict[str, Any]:
        """What steps are taken with."""
        return {
            "storage": self._storage,
            "runner_for": self._runner_for,
            "logs": logs,
            "limits": self._limits,
            "use_memo": asked.use_memo,
            "watch": self._told,
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

    def _told(self, step: str, moment: Moment) -> None:
        with self._one:
            self._watch(step, moment)


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
