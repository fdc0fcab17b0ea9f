"""Models two at a time, here and as jobs of a real Slurm, and what a job costs beside `sbatch`."""

import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

from tests.support import slurm
from tests.support.consortium import Consortium, Member

from benchmarks.cluster import written
from benchmarks.commands import BARE, HELP_GOAL
from benchmarks.models import Site
from benchmarks.run import add_models, participant
from benchmarks.stage import MEDPERF, PYTHON, consortium, environment
from benchmarks.timing import command, compare
from medperf_client.execution import work
from medperf_client.executors import elements
from medperf_client.executors.following import Following
from medperf_client.executors.slurm import Slurm
from medperf_client.settings.executors import ExecutorSettings

SLOTS, GOAL, QUEUE_GOAL = 2, 1.08, 1.25
# How many models, and what each does: so short a one shows what it costs to begin and to keep.
# They differ by number, or a queue would be asked for one of them; else they are equal, and so
# many tell the sum of all.
ONE_BY_ONE = 8
COMPUTE = "any(False for _ in iter(lambda:time.process_time()<2, False))"
MODELS = {"sleeping": (16, "time.sleep(2)"), "computing": (8, COMPUTE)}
QUEUED = (16, "time.sleep(4)")
PROGRAM = "-c \"import runpy, time; NUMBER; {}; runpy.run_path('main.py', run_name='__main__')\""
# Two such programs at once, against one: what two slots of this machine are, with all that it does
# beside.
BARE_ROUNDS = 3
# Jobs that wait: as many as one array has, and until long after this.
JOBS_MODELS, JOBS_DATASETS, WAIT = 50, 20, "now+1day"
JOB_GOAL_MILLISECONDS, CALLS_SECONDS = 50, 60
COMMANDS = ("sbatch", "squeue", "sacct", "scancel")


def measure(rounds: int = 15) -> dict[str, Any]:
    """What two slots make of 16 models, against half of their sum; costs of 1,000 jobs; the help.

    Without Slurm its part is left out.
    """
    figures = {"help": compare(command([MEDPERF, "--help"]), BARE, rounds, HELP_GOAL)}
    has_slurm = not slurm.missing()
    with consortium("process") as stage:
        kinds = {
            kind: add_models(stage, kind, count, PROGRAM.format(what))
            for kind, (count, what) in MODELS.items()
        }
        queued = add_models(stage, "queued", QUEUED[0], PROGRAM.format(QUEUED[1]))
        member, uid = participant(stage)
        for kind, models in kinds.items():
            half = _half(stage, member, uid, models)
            figure = _against(_run(stage, member, uid, models), half, GOAL)
            figures[f"local_{len(models)}_{kind}"] = figure
        figure["two_bare_ones_against_one"] = _machine()
        if has_slurm:
            figures |= _queued(stage, member, uid, queued)
    if has_slurm:
        figures |= _thousand()
    else:
        lacking = ", ".join(slurm.missing())
        print(f"no Slurm here ({lacking}): its part is left out", file=sys.stderr)
    return figures


def _run(
    stage: Consortium,
    member: Member,
    uid: str,
    models: list[int],
    jobs: int = SLOTS,
    executor: str = "local",
) -> float:
    """Seconds that these models take, so many at a time."""
    chosen = stage.folder / "chosen"
    chosen.write_text(",".join(map(str, models)))
    words = [MEDPERF, "benchmark", "run", "-b", "1", "-d", uid, "--no-cache", "-f", str(chosen)]
    options = ["--executor", executor, "--jobs", str(jobs)]
    return _seconds(command([*words, *options], environment(member), stage.folder))


def _half(stage: Consortium, member: Member, uid: str, models: list[int]) -> float:
    """Half of what these models take one by one on this machine."""
    seconds = _run(stage, member, uid, models[:ONE_BY_ONE], jobs=1)
    return seconds * len(models) / len(models[:ONE_BY_ONE]) / SLOTS


def _seconds(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def _against(seconds: float, half: float, goal: float) -> dict[str, Any]:
    return {
        "ratio": round(seconds / half, 3),
        "goal": goal,
        "seconds": round(seconds, 2),
        "half_of_one_by_one": round(half, 2),
    }


def _machine() -> float:
    """How much longer two programs take that compute at once than one that does so alone."""
    words = [PYTHON, "-c", f"import time; {COMPUTE}"]

    def at_once(count: int) -> float:
        with ExitStack() as stack:
            started = time.perf_counter()
            for process in [stack.enter_context(subprocess.Popen(words)) for _ in range(count)]:
                process.wait()
            return time.perf_counter() - started

    times = [(at_once(SLOTS), at_once(1)) for _ in range(BARE_ROUNDS)]
    return round(sum(two for two, _ in times) / sum(one for _, one in times), 3)


def _queued(stage: Consortium, member: Member, uid: str, models: list[int]) -> dict[str, Any]:
    """These models on two nodes of one slot each, and as many jobs that do nothing."""
    half = _half(stage, member, uid, models)
    settings = {"kind": "slurm", "shared_folder": str(stage.folder / "shared")}
    member.does("profile", "set", "executor", json.dumps(settings))
    with slurm.running(cpus=1) as cluster:
        member.environment |= cluster.environment

        def nothing() -> None:
            cluster.says("sbatch", *_array(len(models)))
            slurm.eventually(lambda: not cluster.jobs(), "the jobs ended")

        empty = _seconds(nothing)
        # What goes to the nodes once goes with the first.
        _run(stage, member, uid, models[:1], executor="slurm")
        seconds = _run(stage, member, uid, models, executor="slurm")
    figure = _against(seconds, half, QUEUE_GOAL)
    lost = (seconds - half) * SLOTS / len(models)
    return {
        f"slurm_{len(models)}_sleeping": {
            **figure,
            "seconds_lost_a_job": round(lost, 2),
            "of_an_empty_job": round(empty * SLOTS / len(models), 2),
            "goal_from_models_of_seconds": round(lost / (QUEUE_GOAL - 1), 1),
            "ratio_without_empty_jobs": round((seconds - empty) / half, 3),
        }
    }


def _array(jobs: int, *more: str) -> list[str]:
    return [f"--array=0-{jobs - 1}", f"--output={os.devnull}", *more, "--wrap=true"]


def _thousand() -> dict[str, Any]:
    """What 1,000 jobs cost the client while the queue holds them, beside `sbatch` alone.

    They do not run: what they would give is written by this process, not counted.
    """
    with TemporaryDirectory(prefix="medperf-bench-") as temporary, ExitStack() as stack:
        folder = Path(temporary)
        cluster = stack.enter_context(slurm.running())
        stack.enter_context(patch.dict(os.environ, cluster.environment))
        site = Site(folder, JOBS_MODELS, JOBS_DATASETS)
        settings = ExecutorSettings("slurm", folder / "shared", directives={"begin": WAIT})
        queue, spent = Slurm(settings), dict[str, float]()

        @contextmanager
        def spending(what: str) -> Iterator[None]:
            started = time.perf_counter()
            yield
            spent[what] = time.perf_counter() - started

        def sbatch() -> object:
            return cluster.says("sbatch", *_array(JOBS_MODELS * JOBS_DATASETS, f"--begin={WAIT}"))

        alone = statistics.median(_seconds(sbatch) for _ in range(5))
        cluster.recover()
        plans = {}
        with spending("prepare"):
            for pair in site.pairs:
                plan = site.plan(pair)
                queue.prepare(plan)
                plans[plan.name] = (pair, plan)
        with spending("submit"):
            (run,) = queue.submit(list(plans))
        waiting = _waiting(queue, {name: plan.label for name, (_, plan) in plans.items()}, folder)
        with spending("cancel_in_queue"):
            queue.end(list(queue.look().values()))
        with patch.object(work, "execute", written):
            for number in range(len(plans)):
                elements.do_element(queue.folder / "runs" / run, number)
        with spending("collect"):
            for name, (pair, plan) in plans.items():
                site.take_in(pair, queue.collect(plan))
                queue.forget(name)
            queue.sweep(())
    ours = spent["prepare"] + spent["submit"] + spent["collect"] - alone
    each = 1000 * ours / len(plans)
    return {
        "slurm_1000_cost": {
            "ratio": round(each / JOB_GOAL_MILLISECONDS, 3),
            "goal": 1.0,
            "milliseconds_a_job": round(each, 2),
            "sbatch_alone_seconds": round(alone, 3),
            **{f"{name}_seconds": round(seconds, 2) for name, seconds in spent.items()},
        },
        "slurm_1000_waiting": waiting,
    }


def _waiting(queue: Slurm, labels: dict[str, str], folder: Path) -> dict[str, Any]:
    """What a client does in a minute in which all of its jobs wait."""
    calls = folder / "calls"
    (folder / "bin").mkdir()
    for program in COMMANDS:
        if found := shutil.which(program):
            script = f'#!/bin/sh\necho {program} >> {calls}\nexec {found} "$@"\n'
            (folder / "bin" / program).write_text(script)
            (folder / "bin" / program).chmod(0o755)

    def enough(*_: object) -> None:
        raise TimeoutError

    look = statistics.median(_seconds(queue.look) for _ in range(5))
    path = os.pathsep.join([str(folder / "bin"), os.environ["PATH"]])
    before = time.process_time()
    signal.signal(signal.SIGALRM, enough)
    signal.alarm(CALLS_SECONDS)
    with patch.dict(os.environ, PATH=path), suppress(TimeoutError):
        ended = list(Following(queue, print).ended(labels, lambda *_: None))
        sys.exit(f"{len(ended)} jobs ended that were to wait")
    seconds = time.process_time() - before
    made = Counter(calls.read_text().split())
    return {
        "calls_a_minute": round(60 * made.total() / CALLS_SECONDS),
        **made,
        "percent_of_a_core": round(100 * seconds / CALLS_SECONDS, 2),
        "look_seconds": round(look, 3),
    }
