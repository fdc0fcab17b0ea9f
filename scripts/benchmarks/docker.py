"""A test of all five containers against the same five run by hand with `docker run`."""

import os
import subprocess
from pathlib import Path
from typing import Any

from tests.support.consortium import EXAMPLE
from tests.support.engine import docker_client
from tests.support.images import build

from benchmarks.stage import MEDPERF, consortium, environment
from benchmarks.timing import Run, command, compare
from medperf_client.containers.spec import load

GOAL = 1.15
PREFIX = "medperf-bench/"
CONTAINERS = ("data_preparator", "model_logistic", "model_mlp", "metrics")


def measure(rounds: int = 5) -> dict[str, Any]:
    """`test run --no-cache` against five `docker run`s on the same inputs."""
    engine = docker_client()
    for name in CONTAINERS:
        build(engine, EXAMPLE / name, f"{PREFIX}breast-cancer-{name}:1.0")
    with consortium("docker", PREFIX) as stage:
        model = stage.candidate / "container_config.yaml"
        words = [MEDPERF, "test", "run", "--benchmark", "1", "--model", str(model), "--no-cache"]
        ours = command(words, environment(stage.member("owner")), stage.folder)
        by_hand = _by_hand(stage.host.folder, stage.folder / "by_hand")
        return {"docker_cold": compare(ours, by_hand, rounds, GOAL)}


def _by_hand(containers: Path, folder: Path) -> Run:
    """The five steps as somebody would type them, outputs in `folder`."""
    raw = EXAMPLE / "data" / "demo"
    prepared = {"data_path": folder / "data", "labels_path": folder / "labels"}
    inputs = {"data_path": raw / "measurements", "labels_path": raw / "diagnoses"}
    outputs = {"output_path": folder / "data", "output_labels_path": folder / "labels"}
    steps = [
        docker_run(containers / "data_preparator", "prepare", inputs, outputs),
        docker_run(containers / "data_preparator", "sanity_check", prepared, {}),
        docker_run(
            containers / "data_preparator",
            "statistics",
            prepared,
            {"output_path": folder / "statistics.yaml"},
        ),
        docker_run(
            containers / "model_mlp", "infer", prepared, {"output_path": folder / "predictions"}
        ),
        docker_run(
            containers / "metrics",
            "evaluate",
            {"predictions": folder / "predictions", "labels": folder / "labels"},
            {"output_path": folder / "results.yaml"},
        ),
    ]

    def run() -> None:
        for path in ("data", "labels", "predictions"):
            (folder / path).mkdir(parents=True, exist_ok=True)
        for path in ("statistics.yaml", "results.yaml"):
            (folder / path).touch()
        for step in steps:
            subprocess.run(step, check=True, stdout=subprocess.DEVNULL)

    return run


def docker_run(
    container: Path, task_name: str, inputs: dict[str, Path], outputs: dict[str, Path]
) -> list[str]:
    """One task of a container of the example, as a command line of Docker's."""
    spec = load(container / "container_config.yaml")
    task = spec.task(task_name)
    workspace = container / "workspace"
    given = {
        "parameters_file": workspace / "parameters.yaml",
        "additional_files": workspace / "additional_files",
        **inputs,
    }
    words = ["docker", "run", "--rm", "--network", "none", "-u", f"{os.getuid()}:{os.getgid()}"]
    for volume in task.inputs:
        words += ["-v", f"{given[volume.name]}:{volume.mount_path}:ro"]
    for volume in task.outputs:
        words += ["-v", f"{outputs[volume.name]}:{volume.mount_path}"]
    return [*words, spec.image, *task.command]
