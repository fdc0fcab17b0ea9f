"""What a step took, as whoever did it measures it, on each platform."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from medperf_client.containers import cgroups
from medperf_client.errors import ContainerFailed
from medperf_client.execution.used import JOB_VARIABLE, Used, job_peak, together
from medperf_client.execution.work import Work
from medperf_client.executors.records import RECORD, describe, recorded, used
from tests.support.forks import IMPORT_ROOTS
from tests.support.sandbox import OUTPUT, Sandbox
from tests.support.services import require

MEMORY = 300 << 20
# Takes so much memory, a second, and half of one of a processor.
GREEDY = f"""
import os, pathlib, time
taken = os.urandom(1 << 20) * {MEMORY >> 20}
begun = time.monotonic()
while time.process_time() < 0.5:
    pass
time.sleep(max(0, 1 - (time.monotonic() - begun)))
volumes = pathlib.Path(os.environ.get("MEDPERF_VOLUMES", "/"))
(volumes / "output" / "made").write_text(str(len(taken)))
"""


def measured(sandbox: Sandbox, code: str, name: str) -> Used | None:
    """What `medperf-step` says that it took to run code."""
    folder = sandbox.folder / name
    folder.mkdir()
    describe(Work(sandbox.job(code), (OUTPUT,), key="ab" * 32), folder)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(IMPORT_ROOTS)}
    words = [sys.executable, "-m", "medperf_client.executors.worker", str(folder)]
    subprocess.run(words, env=environment, capture_output=True, timeout=120)
    return used(folder)


def test_a_step_is_measured_where_its_processes_are_the_platforms_own(anywhere: Sandbox) -> None:
    found = measured(anywhere, GREEDY, "greedy")
    assert found is not None and 1 < found.seconds < 100 and found.node == os.uname().nodename
    record = recorded(anywhere.folder / "greedy")
    assert record is not None and record.keys() == {"outputs", "seconds", "created_at", "engine"}
    # One that fails is measured as well.
    failed = measured(anywhere, f"taken = b'x' * {MEMORY}; raise SystemExit(3)", "failed")
    assert failed is not None and failed.memory_of == found.memory_of
    with pytest.raises(ContainerFailed, match="exit code 3"):
        recorded(anywhere.folder / "failed")
    if anywhere.runner.name in ("process", "apptainer"):
        assert found.memory_of == "process" and found.memory_bytes is not None
        assert MEMORY < found.memory_bytes < 2 * MEMORY
        assert found.cpu_seconds is not None and found.cpu_seconds > 0.5
    else:
        # An engine's containers are no children of anybody here.
        assert (found.memory_of, found.memory_bytes, found.cpu_seconds) == (None, None, None)


@pytest.fixture
def job_group() -> Iterator[Path]:
    """A control group of memory such as a cluster makes for a job, number 17."""
    place = cgroups.places().get(cgroups.MEMORY)
    require("cgroups", place is not None, "no control group of memory may be made here")
    assert place is not None
    folder = place / f"medperf-test-{uuid4().hex}"
    group = folder / "job_17"
    group.mkdir(parents=True)
    yield group
    group.rmdir()
    folder.rmdir()


def test_all_of_a_job_is_counted_where_the_cluster_counts_it(job_group: Path) -> None:
    # Two processes, of which each has half.
    child = f"import sys; taken = b'x' * {MEMORY // 2}; print(flush=True); sys.stdin.read()"
    code = f"""
import os, subprocess, sys
from medperf_client.execution.used import Meter, job_peak
open({str(job_group / "cgroup.procs")!r}, 'w').write('0')
meter = Meter('process', job_peak())
words = [sys.executable, '-c', {child!r}]
both = [subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(2)]
for one in both:
    one.stdout.readline()
for one in both:
    one.communicate()
used = meter.read()
print(job_peak(), used.memory_of, used.memory_bytes)
"""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(IMPORT_ROOTS),
        JOB_VARIABLE: "17",
    }
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60
    )
    file, memory_of, memory = done.stdout.split()
    assert Path(file).parent == job_group, done.stderr
    assert memory_of == "job" and MEMORY < int(memory) < 2 * MEMORY
    # Whoever is in the group of no job, or of another one, is not counted by it.
    assert job_peak({JOB_VARIABLE: "17"}) is None and job_peak({}) is None


def test_what_steps_took_is_added_up(tmp_path: Path) -> None:
    one = Used(2.0, 1.0, 100, "process", "north", 5.0, 60, 1000)
    two = Used(3.0, 1.5, 400, "process", "south", None, 60, 1000)
    both = Used(5.0, 2.5, 400, "process", "north, south", 5.0, 60, 1000)
    assert together([one, two]) == both and together([]) is None
    assert both.memory_share == 0.4 and Used(1.0).memory_share is None
    assert Used.read(both.record()) == both


@pytest.mark.parametrize(
    "wrong",
    [
        *({}, [], None, "x", {"seconds": None}, {"seconds": -1}, {"seconds": True}),
        {"seconds": float("nan")},
        *({"seconds": 1, "node": "a\x1b[2J"}, {"seconds": 1, "node": 7}),
        *({"seconds": 1, "memory_of": "me"}, {"seconds": 1, "memory_bytes": "7"}),
    ],
)
def test_what_is_no_measurement_counts_as_none(tmp_path: Path, wrong: object) -> None:
    assert Used.read(wrong) is None
    assert used(tmp_path) is None
    (tmp_path / RECORD).write_text(json.dumps({"format": 1, "key": "ab" * 32, "used": wrong}))
    assert used(tmp_path) is None
