"""A benchmark's models on a dataset of this site: each outcome is there the moment it is made."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
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
from medperf_client.execution.compatibility import read_yaml
from medperf_client.execution.parallel import as_done
from medperf_client.execution.results import Result, Results
from medperf_client.execution.steps import Moment, Perform, Steps, Watch
from medperf_client.execution.workflow import evaluation
from medperf_client.kinds import Entity
from medperf_client.kinds.container import PINS

if TYPE_CHECKING:
    from medperf_client.executors.local import Local

# What concerns one model only: the others go on.
TROUBLE = (MedPerfError, CacheError, OSError)


@dataclass(frozen=True)
class Outcome:
    """What became of one model: a `result`, or an `error`; `is_cached` if nothing had to run.

    `logs` is the folder of what its containers printed.
    """

    model: int | str
    name: str
    result: Result | None
    is_cached: bool
    error: str
    logs: Path

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
        jobs = [partial(self._outcome, asked, one, known, executor) for one in models]
        with executor:
            for _, outcome in as_done(jobs, executor.slots):
                if isinstance(outcome, Exception):
                    raise outcome
                yield outcome

    def _outcome(
        self,
        asked: Asked,
        model: Entity,
        known: Mapping[tuple[int | str, str], Result],
        executor: "Local | None" = None,
    ) -> Outcome:
        logs = asked.logs / f"b{asked.benchmark}m{model['id']}"
        what = (model["id"], model["name"])
        earlier = known.get((model["id"], asked.made_of(model)))
        if earlier is not None and (asked.may_fail or not earlier.partial):
            return Outcome(*what, earlier, True, "", logs)
        try:
            self._admit(asked.evaluator)
            self._admit(model)
            with self._storage.in_use(), executor.slot() if executor else nullcontext():
                perform = executor.perform if executor else None
                made, is_cached = self._evaluated(asked, model, logs, perform)
            return Outcome(*what, made, is_cached, "", logs)
        except TROUBLE as error:
            return Outcome(*what, None, False, str(error), logs)

    def missing(self, asked: Asked, models: Sequence[Entity]) -> list[Entity]:
        """The models that have no result here, or only a partial one that is not asked for."""
        known = self._known(asked)
        found = ((model, known.get((model["id"], asked.made_of(model)))) for model in models)
        return [
            model
            for model, result in found
            if result is None or (result.partial and not asked.may_fail)
        ]

    def _known(self, asked: Asked) -> Mapping[tuple[int | str, str], Result]:
        """The results here of this benchmark and dataset, by model and what they are made of."""
        return {
            (one.model, one.made_of): one
            for one in self._results.all()
            if (one.benchmark, one.dataset) == (asked.benchmark, asked.dataset)
        }

    def _evaluated(
        self, asked: Asked, model: Entity, logs: Path, perform: Perform | None
    ) -> tuple[Result, bool]:
        evaluator = self._evaluator(asked.evaluator)
        steps = Steps(
            self._storage,
            self._runner_for,
            logs,
            self._limits,
            asked.use_memo,
            self._told,
            self._tell,
            self._private,
            perform,
        )
        container = self._library.registered(model)
        made = evaluation(steps, container, evaluator, asked.data, asked.labels, asked.may_fail)
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
        )
        with self._one:
            kept = self._results.add(result)
        return kept, not any(step.ran for step in steps.finished)

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
