"""A run of 20 models on a dataset: all done before, and cold on Docker; the client's memory."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support.consortium import EXAMPLE, Consortium, Member
from tests.support.engine import docker_client
from tests.support.images import build

from benchmarks.commands import BARE
from benchmarks.docker import CONTAINERS, PREFIX, docker_run
from benchmarks.stage import MEDPERF, consortium, environment
from benchmarks.timing import Run, command, compare

MODELS = 20
DONE_GOAL, COLD_GOAL, MEMORY_GOAL = 25, 1.1, 150


def measure(rounds: int = 15, cold_rounds: int = 2) -> dict[str, Any]:
    """`benchmark run` of 20 models: against `python -c pass`, and against `docker run` by hand."""
    with consortium("process") as stage:
        member, uid = hospital(stage, MODELS)
        words = [MEDPERF, "benchmark", "run", "-b", "1", "-d", uid]
        again = command(words, environment(member), stage.folder)
        figures = {"run_20_done": compare(again, BARE, rounds, DONE_GOAL)}
    engine = docker_client()
    for name in CONTAINERS:
        build(engine, EXAMPLE / name, f"{PREFIX}breast-cancer-{name}:1.0")
    with consortium("docker", PREFIX) as stage:
        member, uid = hospital(stage, MODELS)
        words = [MEDPERF, "benchmark", "run", "-b", "1", "-d", uid, "--no-cache"]
        seen = environment(member)
        cold = command(words, seen, stage.folder)
        view = member.json("dataset", "view", uid)
        by_hand = _by_hand(stage, Path(view["here"]["folder"]))
        figures["run_20_cold"] = compare(cold, by_hand, cold_rounds, COLD_GOAL)
        figures["run_20_memory"] = {"MiB": _peak(words, seen, stage.folder), "goal": MEMORY_GOAL}
    return figures


def hospital(stage: Consortium, models: int) -> tuple[Member, str]:
    """A hospital whose dataset has run so many models; the dataset's UID."""
    add_models(stage, "model", models - 1)
    member, uid = participant(stage)
    outcomes = member.json("benchmark", "run", "-b", "1", "-d", uid)
    if len(outcomes) != models:
        sys.exit(f"expected {models} models, found {len(outcomes)}")
    return member, uid


def add_models(stage: Consortium, name: str, count: int, program: str = "main.py") -> list[int]:
    """So many more models in the benchmark; their UIDs.

    They run `program` in place of `main.py`, with their number in place of NUMBER.
    """
    committee, uids = stage.member("committee"), []
    config = (stage.host.folder / "model_logistic" / "container_config.yaml").read_text()
    for number in range(count):
        # Models differ in their containers' hashes.
        (stage.host.folder / f"{name}-{number}.yaml").write_text(
            f"{config.replace('main.py', program)}# model NUMBER\n".replace("NUMBER", str(number))
        )
        options = stage.container_options("model_logistic")
        options[1] = f"{stage.host.url}{name}-{number}.yaml"
        words = ("container", "submit", "--name", f"{name}-{number}", *options, "--operational")
        uids.append(committee.json(*words, "-y")["id"])
        committee.does("container", "associate", "-b", "1", "-m", str(uids[-1]), "-y")
    return uids


def participant(stage: Consortium) -> tuple[Member, str]:
    """A hospital that may run the benchmark's models on its dataset, and has them; its UID."""
    committee, member = stage.member("committee"), stage.member("hospital")
    member.does("benchmark", "fetch", "1")
    raw = EXAMPLE / "data" / "demo"
    paths = ("-d", str(raw / "measurements"), "-l", str(raw / "diagnoses"))
    made = member.json("dataset", "submit", "-b", "1", *paths, "--name", "north", "-y")["id"]
    uid = str(made)
    member.does("dataset", "prepare", "-d", uid, "-y")
    member.does("dataset", "set_operational", "-d", uid, "-y")
    member.does("dataset", "associate", "-d", uid, "-b", "1", "-y")
    committee.does("association", "approve", "-b", "1", "-d", uid, "-y")
    return member, uid


def _by_hand(stage: Consortium, prepared: Path) -> Run:
    """The same 40 tasks as somebody would type them."""
    folder = stage.folder / "by_hand"
    steps = []
    for number in range(MODELS):
        own = folder / str(number)
        (own / "predictions").mkdir(parents=True)
        (own / "results.yaml").touch()
        data = {"data_path": (prepared / "data").resolve()}
        predictions = own / "predictions"
        given = {"predictions": predictions, "labels": (prepared / "labels").resolve()}
        containers = stage.host.folder
        steps += [
            docker_run(containers / "model_logistic", "infer", data, {"output_path": predictions}),
            docker_run(
                containers / "metrics", "evaluate", given, {"output_path": own / "results.yaml"}
            ),
        ]

    def run() -> None:
        for step in steps:
            subprocess.run(step, check=True, stdout=subprocess.DEVNULL)

    return run


def _peak(words: list[str], seen: Any, folder: Path) -> float:
    """The resident memory that a command had at most, in MiB."""
    process = subprocess.Popen(words, env=seen, cwd=folder, stdout=subprocess.DEVNULL)
    _, _, used = os.wait4(process.pid, 0)
    return round(used.ru_maxrss / 1024, 1)
