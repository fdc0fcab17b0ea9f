"""Models on datasets as a client has them that is in step with its registry: for what jobs cost."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medperf_cache import Storage
from medperf_cache.private import Private
from medperf_client.containers.job import Limits
from medperf_client.containers.library import Container, Input
from medperf_client.containers.process import ProcessRunner
from medperf_client.containers.spec import PROCESS, ContainerSpec, Task, Volume
from medperf_client.execution.compatibility import read_yaml
from medperf_client.execution.plan import Plan
from medperf_client.execution.results import Result, Results
from medperf_client.execution.steps import Perform, Steps
from medperf_client.execution.workflow import Evaluated, evaluation

VOLUMES = "/mlcommons/volumes"
DATA = Volume("data_path", f"{VOLUMES}/data", "directory")
PREDICTIONS = Volume("output_path", f"{VOLUMES}/predictions", "directory")
INFER = Task(
    "infer",
    entrypoint=("/bin/cp",),
    command=(
        "-r",
        "../volumes/mlcommons/volumes/data/.",
        "../volumes/mlcommons/volumes/predictions",
    ),
    inputs=(DATA,),
    outputs=(PREDICTIONS,),
)
EVALUATE = Task(
    "evaluate",
    entrypoint=("/bin/cp",),
    command=("results.yaml", "../volumes/mlcommons/volumes/results/results.yaml"),
    inputs=(
        Volume("predictions", f"{VOLUMES}/predictions", "directory"),
        Volume("labels", f"{VOLUMES}/labels", "directory"),
    ),
    outputs=(Volume("output_path", f"{VOLUMES}/results/results.yaml", "file"),),
)


@dataclass(frozen=True)
class Pair:
    """One model on one dataset, by their numbers."""

    model: int
    dataset: int


class Site:
    """So many models, all different, and so many datasets, each of one small file."""

    def __init__(self, folder: Path, models: int, datasets: int) -> None:
        self._folder, self._storage = folder, Storage(folder / "cache")
        self._private, self._runner = Private(folder / "private"), ProcessRunner(allowed=True)
        self._results = Results(folder / "results", lambda uid: uid)
        self._models = [self._container("model", INFER, number) for number in range(models)]
        self._metrics = self._container("metrics", EVALUATE, 0)
        self._datasets = [
            (self._input(f"data-{number}"), self._input(f"labels-{number}"))
            for number in range(datasets)
        ]

    @property
    def pairs(self) -> Iterator[Pair]:
        """Each model on each dataset."""
        for dataset in range(len(self._datasets)):
            yield from (Pair(model, dataset) for model in range(len(self._models)))

    def plan(self, pair: Pair) -> Plan:
        """What is to be done of it."""
        plan = Plan(**self._means(), made_of=f"{pair}")
        self._evaluate(plan, pair)
        return plan

    def take_in(self, pair: Pair, perform: Perform) -> None:
        """Keep what was done of it, and its result, as a run of it here would."""
        steps = Steps(**self._means(), perform=perform)
        made = self._evaluate(steps, pair)
        result = Result(
            name="",
            benchmark=1,
            model=pair.model,
            dataset=pair.dataset,
            results=read_yaml(made.results.path, "what evaluate wrote"),
            made_of=f"{pair}",
            predictions=made.predictions.digest,
            steps=[step.record() for step in steps.finished],
        )
        self._results.add(result, ())

    def _means(self) -> dict[str, Any]:
        return {
            "storage": self._storage,
            "runner_for": lambda spec: self._runner,
            "logs": self._folder / "logs",
            "limits": Limits(seconds=60),
            "private": self._private,
        }

    def _evaluate(self, steps: Steps, pair: Pair) -> Evaluated:
        data, labels = self._datasets[pair.dataset]
        return evaluation(steps, self._models[pair.model], self._metrics, data, labels)

    def _container(self, name: str, task: Task, number: int) -> Container:
        code = self._input(f"{name}-{number}", {"results.yaml": "score: 0.5\n"})
        spec = ContainerSpec(PROCESS, str(code.path), {task.name: task}, f"{name}-{number}")
        return Container(f"{name}-{number}", number, spec, archive=code.path)

    def _input(self, name: str, more: dict[str, str] | None = None) -> Input:
        """A folder that is kept, with its name in a file."""
        with self._storage.scratch() as area:
            made = area / "made"
            made.mkdir()
            for file, text in {"name": name, **(more or {})}.items():
                (made / file).write_text(text)
            digest = self._storage.trees.adopt(made)
        return Input(self._storage.trees.path(digest), digest)
