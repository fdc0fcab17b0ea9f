"""How jobs ended that Slurm's controller has forgotten, as its accounting tells."""

import os
import time
from pathlib import Path

import pytest

from medperf_client.executors.elements import RUN, Element, Run
from medperf_client.executors.executor import Executor, Seen, State, executor_of
from medperf_client.files import write_atomically
from tests.support.accounting import Accounted, accounted
from tests.support.slurm import PATH, eventually

__all__ = ["accounted"]

# The first two end once there is a file, the others when something ends them.
ENDS = (
    "case $SLURM_ARRAY_TASK_ID in 0|1) until [ -e {gate} ]; do sleep .1; done;;"
    " *) exec sleep 600;; esac; exit $((SLURM_ARRAY_TASK_ID * 3))"
)
# As many as one line of the accounting has no room for, unless it is asked to.
PENDING = 60
# After which the accounting has what the controller knows.
LAG_SECONDS = 3
LIST = ("--allocations", "--noheader", "--parsable2", "--starttime=now-1days", "--format=JobName")


@pytest.fixture
def executor(accounted: Accounted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Executor:
    """That cluster, as the product uses it."""
    accounted.recover()
    monkeypatch.setenv("PATH", PATH)
    monkeypatch.setenv("SLURM_CONF", accounted.environment["SLURM_CONF"])
    settings = {"kind": "slurm", "shared_folder": str(tmp_path / "shared"), "setup": []}
    settings["setup"] = [ENDS.format(gate=tmp_path / "gate")]
    return executor_of({**settings, "memory": "10M"})


def sent(executor: Executor, number: int) -> tuple[str, str]:
    """The name of a run of so many elements, and what Slurm calls it."""
    elements = [Element(f"{one:064x}", "1", "a", "", 0, ()) for one in range(number)]
    for element in elements:
        executor.place(element.name).mkdir(parents=True)
        element.write(executor.place(element.name))
    run = Run(tuple((one.name, one.ticket) for one in elements), (1,) * number, 0)
    folder = executor.folder / "runs" / run.name
    write_atomically(folder / RUN, run.text)
    return run.name, executor.send(run, folder)


def seen(executor: Executor, run: str) -> dict[int, Seen]:
    """What is known of the jobs of a run."""
    return {one.number: one for one in executor.jobs([run])}


def states(executor: Executor, run: str) -> dict[int, State]:
    """The states that they are in."""
    return {number: one.state for number, one in seen(executor, run).items()}


def is_accounted(cluster: Accounted, lines: int, run: str) -> None:
    """Wait until so many lines of the accounting are of a run.

    What ends before is known to it without its name: so it is with all that is over in seconds.
    """
    eventually(
        lambda: cluster.says("sacct", *LIST).split().count(f"medperf-{run[:16]}") == lines,
        f"{lines} lines of it are accounted for",
    )


def test_each_end_is_told_apart_after_the_controller_forgot_it(
    executor: Executor, accounted: Accounted, tmp_path: Path
) -> None:
    run, job = sent(executor, PENDING)
    is_accounted(accounted, 5, run)
    (tmp_path / "gate").touch()
    begun = {0: State.DONE, 1: State.FAILED, **dict.fromkeys(range(2, 6), State.RUNS)}
    eventually(lambda: begun.items() <= states(executor, run).items(), "four of them run")
    is_accounted(accounted, 7, run)
    nodes = {number: one.node for number, one in seen(executor, run).items() if number in begun}
    lost = nodes[2]
    fails, stopped = (number for number in range(2, 6) if nodes[number] == lost)
    # Nothing more begins, and of what waits every other one is taken back, then all.
    accounted.says("scontrol", "update", "partitionname=all", "state=down")
    accounted.says("scancel", f"{job}_{stopped}", *(f"{job}_{one}" for one in range(7, PENDING, 2)))
    accounted.says("scancel", f"{job}_[6-{PENDING - 1}]")
    accounted.says("scontrol", "update", f"jobid={job}_{fails}", "requeue=0")
    accounted.says("scontrol", "update", f"nodename={lost}", "state=down", "reason=lost")
    accounted.says("scontrol", "update", f"nodename={lost}", "state=resume")
    urgent = ("--partition=urgent", "--nodes=2", "--exclusive", "--mem=10M", "--wrap=exit")
    accounted.says("sbatch", f"--output={os.devnull}", *urgent)
    expected = {
        0: State.DONE,
        1: State.FAILED,
        **dict.fromkeys(range(2, 6), State.PREEMPTED),
        fails: State.NODE_FAILED,
        stopped: State.CANCELLED,
        **dict.fromkeys(range(6, PENDING), State.CANCELLED),
    }
    eventually(lambda: states(executor, run) == expected, "all of it ended")
    time.sleep(LAG_SECONDS)
    accounted.forget()
    assert accounted.jobs("all") == [] and states(executor, run) == expected
    found = seen(executor, run)
    assert {number: found[number].node for number in nodes} == nodes
    assert {one.node for number, one in found.items() if number > 5} == {""}
    assert all(one.job == f"{job}_{number}" for number, one in found.items())


def test_what_a_controller_has_lost_while_it_ran_is_gone(
    executor: Executor, accounted: Accounted, tmp_path: Path
) -> None:
    run, _ = sent(executor, 6)
    is_accounted(accounted, 5, run)
    (tmp_path / "gate").touch()
    eventually(lambda: states(executor, run)[1] == State.FAILED, "the second one ended")
    time.sleep(LAG_SECONDS)
    accounted.forget()
    found = states(executor, run)
    assert (found[0], found[1]) == (State.DONE, State.FAILED)
    assert {found.get(one, State.GONE) for one in range(2, 6)} == {State.GONE}
