"""Steps as a job of a queue does them, on the platforms that clusters have."""

import os
import pwd
from collections.abc import Iterator
from pathlib import Path

import pytest

from medperf_cache import Storage, tree_digest
from medperf_client.containers.apptainer import ApptainerRunner
from medperf_client.containers.docker import DockerRunner
from medperf_client.containers.job import Limits
from medperf_client.containers.library import Container, Input
from medperf_client.containers.runner import Runner
from medperf_client.containers.spec import DOCKER_ARCHIVE, DOCKER_IMAGE, ContainerSpec, Task, Volume
from medperf_client.errors import Unsupported
from medperf_client.execution.plan import Plan
from medperf_client.execution.steps import Steps
from medperf_client.execution.workflow import Evaluated, evaluation
from medperf_client.executors.executor import State
from medperf_client.executors.following import Following
from medperf_client.executors.slurm import Slurm, accounted, job_of, unbegun
from medperf_client.settings.executors import executor_settings
from tests.support.apptainer import Converted, open_folder, path_with_apptainer
from tests.support.slurm import Slurm as Cluster
from tests.support.slurm import slurm

__all__ = ["slurm"]

VOLUMES = "/mlcommons/volumes"
INFER = Task(
    "infer",
    entrypoint=("python3",),
    command=(
        "-c",
        f"text = open('{VOLUMES}/data/scan').read();"
        f" open('{VOLUMES}/predictions/scan', 'w').write(text * 2)",
    ),
    inputs=(Volume("data_path", f"{VOLUMES}/data", "directory"),),
    outputs=(Volume("output_path", f"{VOLUMES}/predictions", "directory"),),
)
EVALUATE = Task(
    "evaluate",
    entrypoint=("python3",),
    command=(
        "-c",
        f"text = open('{VOLUMES}/predictions/scan').read();"
        f" open('{VOLUMES}/results/results.yaml', 'w').write('length: %d' % len(text))",
    ),
    inputs=(
        Volume("predictions", f"{VOLUMES}/predictions", "directory"),
        Volume("labels", f"{VOLUMES}/labels", "directory"),
    ),
    outputs=(Volume("output_path", f"{VOLUMES}/results/results.yaml", "file"),),
)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with data and labels, which other users may enter."""
    with open_folder() as found:
        for name in ("data", "labels"):
            (found / name).mkdir()
            (found / name / "scan").write_text(name)
        yield found


def evaluated(steps: Steps, folder: Path, kind: str, archive: Path | None = None) -> Evaluated:
    """A model and metrics in one image, on the data of a folder."""
    spec = ContainerSpec(kind, str(archive or "a.org/image"), {"infer": INFER}, "container")
    metrics = ContainerSpec(kind, spec.image, {"evaluate": EVALUATE}, "container")
    data, labels = (Input(folder / name, tree_digest(folder / name)) for name in ("data", "labels"))
    return evaluation(
        steps,
        Container("model", 1, spec, archive=archive),
        Container("metrics", 2, metrics, archive=archive),
        data,
        labels,
    )


def test_apptainer_gives_in_a_queue_what_it_gives_here(
    slurm: Cluster, for_apptainer: Converted, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = path_with_apptainer()
    monkeypatch.setenv("PATH", path)
    monkeypatch.setenv("SLURM_CONF", slurm.environment["SLURM_CONF"])
    settings = {
        "kind": "slurm",
        "shared_folder": str(folder / "shared"),
        "setup": [f"export PATH='{path}'"],
    }
    executor = Slurm(executor_settings(settings, "this"))
    kept = {}
    for name in ("queued", "here"):
        storage = Storage(folder / name)
        for_apptainer.put_into(storage)
        runner = ApptainerRunner(storage=storage)

        def runner_for(spec: ContainerSpec, found: Runner = runner) -> Runner:
            return found

        means = (storage, runner_for, folder / f"logs-{name}", Limits(seconds=120))
        perform = None
        if name == "queued":
            plan = Plan(*means)
            evaluated(plan, folder, DOCKER_ARCHIVE, for_apptainer.archive)
            assert [one.asked.task.name for one in plan.planned] == ["infer", "evaluate"]
            executor.prepare(plan)
            ended = Following(executor, print).ended({plan.name: "model"}, lambda *_: None)
            ((found, trouble),) = list(ended)
            assert (found, trouble) == (plan.name, None)
            perform = executor.collect(plan)
        steps = Steps(*means, perform=perform)
        made = evaluated(steps, folder, DOCKER_ARCHIVE, for_apptainer.archive)
        assert made.results.path.read_text() == "length: 8"
        assert all(step.ran for step in steps.finished)
        kept[name] = [one.record() | {"seconds": 0} for one in steps.finished]
        # What is remembered needs nobody.
        again = Plan(*means)
        evaluated(again, folder, DOCKER_ARCHIVE, for_apptainer.archive)
        assert again.planned == []
    assert kept["queued"] == kept["here"]


def test_images_that_only_an_engine_has_are_not_sent(folder: Path) -> None:
    plan = Plan(Storage(folder / "cache"), lambda spec: DockerRunner(), folder, Limits())
    with pytest.raises(Unsupported, match="model runs on docker, whose images are on this machine"):
        evaluated(plan, folder, DOCKER_IMAGE)
    assert plan.planned == []


RUN = "ab" * 32
LINE = "17|3|{state}|{user}|medperf-{name}|north|{reason}|medperf {run}"
OWN = {"user": pwd.getpwuid(os.geteuid()).pw_name, "name": RUN[:16], "run": RUN, "reason": "None"}


@pytest.mark.parametrize(
    ("state", "reason", "found"),
    [
        ("PENDING", "Priority", State.WAITS),
        ("PENDING", "launch failed requeued held", State.HELD),
        ("REQUEUE_HOLD", "None", State.HELD),
        ("SUSPENDED", "None", State.WAITS),
        ("RUNNING", "None", State.RUNS),
        ("COMPLETING", "None", State.RUNS),
        ("COMPLETED", "None", State.DONE),
        ("FAILED", "NonZeroExitCode", State.FAILED),
        ("PREEMPTED", "None", State.PREEMPTED),
        ("NODE_FAIL", "None", State.NODE_FAILED),
        ("BOOT_FAIL", "None", State.NODE_FAILED),
        ("TIMEOUT", "TimeLimit", State.TOO_LONG),
        ("DEADLINE", "None", State.TOO_LONG),
        ("OUT_OF_MEMORY", "OutOfMemory", State.NO_MEMORY),
        ("CANCELLED by 1000", "None", State.CANCELLED),
    ],
)
def test_what_became_of_a_job_is_told_apart(state: str, reason: str, found: State) -> None:
    seen = job_of(LINE.format(**OWN | {"state": state, "reason": reason}), {RUN})
    assert seen is not None and (seen.job, seen.run, seen.number) == ("17_3", RUN, 3)
    assert seen.state == found
    assert seen.node == "north" and seen.reason == ("" if reason == "None" else reason)


@pytest.mark.parametrize(
    "other",
    [{"user": "mallory"}, {"name": "cd" * 8}, {"run": "cd" * 32}, {"run": ""}],
)
def test_jobs_of_others_and_without_the_mark_are_not_believed(other: dict[str, str]) -> None:
    assert job_of(LINE.format(**OWN | {"state": "COMPLETED"} | other), {RUN}) is None
    assert job_of("", {RUN}) is None


NAMES = {f"medperf-{RUN[:16]}": RUN}
ACCOUNT = "{job}|{state}|{user}|medperf-{name}|{node}"


@pytest.mark.parametrize(
    ("job", "numbers"),
    [
        ("17_3", [3]),
        ("17_[0-3]", [0, 1, 2, 3]),
        ("17_[1,4-5,9%2]", [1, 4, 5, 9]),
        ("17_[0-8:4]", [0, 4, 8]),
        ("17", [2, 6]),
    ],
)
def test_jobs_that_stand_in_one_line_of_the_accounting_are_told_apart(
    job: str, numbers: list[int]
) -> None:
    line = ACCOUNT.format(**OWN | {"job": job, "state": "CANCELLED by 0", "node": "None assigned"})
    seen = list(accounted(line, NAMES, {RUN: [2, 6]}))
    assert [(one.job, one.number) for one in seen] == [(f"17_{one}", one) for one in numbers]
    assert {(one.run, one.state, one.node) for one in seen} <= {(RUN, State.CANCELLED, "")}


def test_a_job_that_nobody_cancelled_was_lost_by_its_controller() -> None:
    line = ACCOUNT.format(**OWN | {"job": "17_3", "state": "CANCELLED", "node": "north"})
    (seen,) = accounted(line, NAMES, {RUN: [3]})
    assert seen.state == State.GONE
    assert list(accounted(line.replace("17_3", "17"), NAMES, {RUN: [3]})) == []


def test_what_of_an_array_was_cancelled_before_it_began_is_told() -> None:
    line = LINE.format(**OWN | {"state": "CANCELLED"}).replace("|3|", "|N/A|")
    assert job_of(line, {RUN}) is None
    missing = {RUN: [4, 7], "cd" * 32: [1]}
    seen = unbegun(line, missing)
    assert [(one.job, one.run, one.number) for one in seen] == [("17_4", RUN, 4), ("17_7", RUN, 7)]
    assert {one.state for one in seen} == {State.CANCELLED}
    assert unbegun(line.replace(OWN["user"], "mallory"), missing) == []
    assert unbegun(line.replace("CANCELLED", "PENDING"), missing) == []


@pytest.mark.parametrize("other", [{"user": "mallory"}, {"name": "cd" * 8}])
def test_jobs_of_others_in_the_accounting_are_not_believed(other: dict[str, str]) -> None:
    line = ACCOUNT.format(**OWN | {"job": "17_3", "state": "COMPLETED", "node": "north"} | other)
    assert list(accounted(line, NAMES, {RUN: [3]})) == []
