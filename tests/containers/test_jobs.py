"""A step's work holds all that it takes: any process can do it, and what it gives is the same."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from medperf_cache import tree_digest
from medperf_client.containers.job import Job, Limits
from medperf_client.containers.spec import Task, Volume
from medperf_client.errors import (
    ContainerFailed,
    MedPerfError,
    Unsupported,
    UsageError,
    WrongHash,
)
from medperf_client.execution.jobs import execute
from medperf_client.execution.parallel import as_done
from medperf_client.execution.work import Work, perform
from medperf_client.executors.elements import Element, Run, is_over
from medperf_client.executors.local import Local
from medperf_client.executors.records import describe, recorded, used
from tests.support.forks import IMPORT_ROOTS
from tests.support.processes import command_of, ended, ends

TASK = Task(
    "infer",
    command=("python3", "main.py"),
    environment={"FACTOR": "2"},
    inputs=(
        Volume("data_path", "/mlcommons/volumes/data", "directory"),
        Volume("parameters_file", "/mlcommons/volumes/parameters/p.yaml", "file"),
    ),
    outputs=(Volume("output_path", "/mlcommons/volumes/predictions", "directory"),),
)
PROGRAM = """
import os, pathlib
volumes = pathlib.Path(os.environ["MEDPERF_VOLUMES"], "mlcommons/volumes")
shift = int((volumes / "parameters/p.yaml").read_text())
for scan in (volumes / "data").iterdir():
    result = int(scan.read_text()) * int(os.environ["FACTOR"]) + shift
    (volumes / "predictions" / scan.name).write_text(str(result))
"""
# Ends once another program of its kind has begun.
MEETING = """
import os, pathlib, time
mine = pathlib.Path(os.environ["MEDPERF_VOLUMES"], "mlcommons/volumes/predictions/pid")
mine.write_text(str(os.getpid()))
place = pathlib.Path({place!r})
(place / str(os.getpid())).touch()
while len(list(place.iterdir())) < {others}:
    time.sleep(0.01)
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder with code, data and parameters."""
    for name in ("code", "data"):
        (tmp_path / name).mkdir()
    (tmp_path / "code" / "main.py").write_text(PROGRAM)
    for scan, value in (("a", "1"), ("b", "20")):
        (tmp_path / "data" / scan).write_text(value)
    (tmp_path / "p.yaml").write_text("3")
    return tmp_path


def work(site: Path, name: str, may_fail: bool = False, **fields: Any) -> Work:
    """Work in a new folder of that name."""
    folder = site / name
    folder.mkdir()
    job = Job.of(
        "process",
        TASK,
        "ab" * 32,
        {"data_path": site / "data", "parameters_file": site / "p.yaml"},
        {"output_path": folder / "out"},
        folder / "log",
        model="container 4 (mlp)",
        archive=site / "code",
        **{"limits": Limits(seconds=60), "scratch": folder, **fields},
    )
    return Work(job, TASK.outputs, may_fail)


def step(*words: str | Path) -> "subprocess.CompletedProcess[str]":
    """`medperf-step` in a process that has nothing else: no home, no settings."""
    return subprocess.run(
        [sys.executable, "-m", "medperf_client.executors.worker", *map(str, words)],
        env={"PYTHONPATH": os.pathsep.join(IMPORT_ROOTS), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_a_bare_process_gives_what_this_one_does(site: Path) -> None:
    here = perform(work(site, "here"))
    assert {path.name: path.read_text() for path in (site / "here" / "out").iterdir()} == {
        "a": "5",
        "b": "43",
    }
    assert here["outputs"] == {"output_path": ("directory", tree_digest(site / "here" / "out"))}
    describe(work(site, "there"), site / "there")
    before = {path.name for path in site.iterdir()}
    done = step(site / "there")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    record = recorded(site / "there")
    assert record is not None and record["seconds"] < 60 and "failed" not in record
    assert record["outputs"] == json.loads(json.dumps(here["outputs"]))
    assert {path.name for path in site.iterdir()} == before
    assert {one.name for one in (site / "there").iterdir()} == {
        *("work.json", "record.json", "out", "log")
    }


def test_a_job_is_what_its_text_says(site: Path) -> None:
    plain = work(site, "out", may_fail=True)
    every = Job(
        "docker",
        "infer",
        "ab" * 32,
        Path("/log"),
        entrypoint=(),
        shm_size=1 << 30,
        gpus=("GPU-1", "GPU-2"),
        scratch=Path("/sc\udcffratch"),
    )
    for one in (plain.job, every, Job("process", "infer", "ab" * 32, Path("/log"), gpus=-1)):
        assert Job.read(one.text()) == one
    assert plain.job.mounts[0].read_only and not plain.job.mounts[-1].read_only
    assert Work.read(plain.text()) == plain


def test_a_step_that_fails_names_its_model_and_its_log(site: Path) -> None:
    (site / "p.yaml").write_text("no number")
    describe(work(site, "out"), site / "out")
    done = step(site / "out")
    assert done.returncode == 1
    assert "task infer of container 4 (mlp) failed with exit code 1" in done.stderr
    assert str(site / "out" / "log") in done.stderr and "Traceback" in done.stderr
    with pytest.raises(ContainerFailed, match=r"task infer of container 4 \(mlp\) failed"):
        recorded(site / "out")
    with pytest.raises(ContainerFailed, match=r"task infer of container 4 \(mlp\) failed"):
        perform(work(site, "here"))


def test_what_it_wrote_before_it_failed_counts_where_it_may(site: Path) -> None:
    (site / "data" / "c").write_text("no number")
    describe(work(site, "out", may_fail=True), site / "out")
    assert step(site / "out").returncode == 0
    record = recorded(site / "out")
    assert record is not None and "failed with exit code 1" in record["failed"]
    assert record["outputs"]["output_path"] == ["directory", tree_digest(site / "out" / "out")]


def test_what_is_no_work_is_refused(site: Path) -> None:
    whole = work(site, "out")
    fields = json.loads(whole.job.text())
    for text in ("", "[]", "{}", json.dumps({**fields, "sudo": True}), "{" * 5, "[" * 100_000):
        with pytest.raises(UsageError, match="this is no job"):
            Job.read(text)
        (site / "out" / "work.json").write_text(text)
        done = step(site / "out")
        assert done.returncode == 2 and "this is no work" in done.stderr
        assert recorded(site / "out") is None
    with pytest.raises(Unsupported, match="no platform 'toaster' here to run task infer"):
        execute(Job.read(json.dumps({**fields, "platform": "toaster"})))
    done = step(site / "nowhere")
    assert done.returncode == 2 and "nowhere/work.json: No such file" in done.stderr
    done = step("--fast", site / "nowhere")
    assert done.returncode == 2 and "usage: medperf-step" in done.stderr


def test_several_are_done_at_a_time(site: Path) -> None:
    place = site / "meeting"
    place.mkdir()
    (site / "code" / "main.py").write_text(MEETING.format(place=str(place), others=3))
    works = [work(site, f"out{number}") for number in range(3)]
    jobs = [lambda one=one: executor.perform(one) for one in works]
    with Local(3) as executor:
        outcomes = dict(as_done(jobs, executor.slots))
    assert all(isinstance(one, dict) for one in outcomes.values()), outcomes
    assert len({(site / f"out{number}" / "out" / "pid").read_text() for number in range(3)}) == 3


def test_one_that_fails_costs_only_itself(site: Path) -> None:
    good, bad = work(site, "good"), work(site, "bad", limits=Limits(60, output_files=1))
    with Local(2) as executor:
        jobs = [lambda one=one: executor.perform(one) for one in (good, bad)]
        outcomes = dict(as_done(jobs, executor.slots))
    assert isinstance(outcomes[0], dict)
    assert isinstance(outcomes[1], ContainerFailed) and "more than 1 files" in str(outcomes[1])
    assert "output_files" in outcomes[1].hint


def test_a_process_does_one_step_after_the_other_and_leaves_nothing_to_the_next(site: Path) -> None:
    describe(work(site, "alone"), site / "alone")
    assert step(site / "alone").returncode == 0
    expected = recorded(site / "alone")
    assert expected is not None
    with Local(1) as executor:
        with pytest.raises(ContainerFailed, match="more than 1 files"):
            executor.perform(work(site, "bad", limits=Limits(60, output_files=1)))
        first = _child()
        (site / "data" / "c").write_text("no number")
        with pytest.raises(ContainerFailed, match="failed with exit code 1"):
            executor.perform(work(site, "worse"))
        (site / "data" / "c").unlink()
        record = executor.perform(work(site, "good"))
        assert record["outputs"] == expected["outputs"] and _child() == first
        psutil.Process(first).kill()
        assert ends(first)
        assert executor.perform(work(site, "better"))["outputs"] == expected["outputs"]
        second = _child()
        assert second != first
    assert ended(second)


def test_what_a_step_took_is_not_counted_for_the_next(site: Path) -> None:
    with Local(1) as executor:
        executor.perform(work(site, "small"))
        (site / "code" / "main.py").write_text(f"large = b'x' * (256 << 20){PROGRAM}")
        executor.perform(work(site, "large"))
        (site / "code" / "main.py").write_text(PROGRAM)
        executor.perform(work(site, "again"))
    small, large, again = (used(site / name) for name in ("small", "large", "again"))
    assert small and large and again
    assert small.memory_bytes and large.memory_bytes and again.memory_bytes
    assert large.memory_bytes > 256 << 20
    assert max(small.memory_bytes, again.memory_bytes) < 128 << 20


def test_a_process_that_is_killed_is_told(site: Path) -> None:
    place = site / "meeting"
    place.mkdir()
    (site / "code" / "main.py").write_text(MEETING.format(place=str(place), others=2))

    def killed() -> None:
        (task,) = map(int, os.listdir(_awaited(place)))
        psutil.Process(_child()).kill()
        assert ends(task)

    with Local(1) as executor:
        jobs = [lambda: executor.perform(work(site, "out")), killed]
        found = dict(as_done(jobs, 2))
    assert isinstance(found[0], MedPerfError) and found[1] is None
    assert "for task infer of container 4 (mlp) ended with exit code -9" in str(found[0])


def _child() -> int:
    """The process that does a step for this one."""
    (found,) = [
        one.pid
        for one in psutil.Process().children()
        if "medperf_client.executors.worker" in command_of(one)
    ]
    return found


def _awaited(place: Path, most: int = 1) -> Path:
    """A meeting's place once so many are there."""
    patience = time.monotonic() + 60
    while len(list(place.iterdir())) < most:
        assert time.monotonic() < patience
        time.sleep(0.01)
    return place


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_whoever_ends_the_client_ends_what_it_runs(site: Path, how: int) -> None:
    place = site / "meeting"
    place.mkdir()
    (site / "code" / "main.py").write_text(MEETING.format(place=str(place), others=3))
    for number in range(2):
        (site / f"work{number}").write_text(work(site, f"out{number}").text())
    client = f"""
from pathlib import Path
from medperf_client.execution.parallel import as_done
from medperf_client.execution.work import Work
from medperf_client.executors.elements import Element, Run, is_over
from medperf_client.executors.local import Local
site = Path({str(site)!r})
works = [Work.read((site / f"work{{n}}").read_text()) for n in range(2)]
def do(one):
    with executor.slot():
        return executor.perform(one)
with Local(2) as executor:
    list(as_done([lambda one=one: do(one) for one in works], 2))
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(IMPORT_ROOTS)}
    with subprocess.Popen(
        [sys.executable, "-c", client], env=environment, stderr=subprocess.DEVNULL
    ) as process:
        tasks = [int(path.name) for path in _awaited(place, 2).iterdir()]
        process.send_signal(how)
        process.wait(60)
    for task in tasks:
        assert ends(task)
    patience = time.monotonic() + 30
    while [one for number in range(2) for one in (site / f"out{number}").glob("medperf-*")]:
        assert time.monotonic() < patience, "what its platform kept is still there"
        time.sleep(0.01)


def element(site: Path, *works: Work) -> tuple[Path, Path]:
    """A run of one element that does these works, and the element's folder; both by their names."""
    folder = site / "shared" / "elements" / ("ef" * 32)
    found = Element(folder.name, "ticket", "container 4 (mlp)", "", 0, tuple(w.key for w in works))
    for one in works:
        (folder / one.key).mkdir(parents=True)
        describe(one, folder / one.key)
    found.write(folder)
    run = Run(((found.name, found.ticket),), (1,), 0)
    place = site / "shared" / "runs" / run.name
    place.mkdir(parents=True)
    (place / "run.json").write_text(run.text)
    return place, folder


def chained(site: Path) -> tuple[Work, Work]:
    """Two steps, of which the second reads what the first one gives."""
    folder = site / "shared" / "elements" / ("ef" * 32)

    def made(key: str, data: Path) -> Work:
        place = folder / key
        job = Job.of(
            *("process", TASK, "ab" * 32),
            {"data_path": data, "parameters_file": site / "p.yaml"},
            {"output_path": place / "outputs" / "output_path"},
            place / "log",
            archive=site / "code",
            limits=Limits(seconds=60),
        )
        return Work(job, TASK.outputs, key=key)

    first, second = "01" * 32, "02" * 32
    return made(first, site / "data"), made(second, folder / first / "outputs" / "output_path")


def test_an_element_does_its_steps_one_after_the_other_and_none_twice(site: Path) -> None:
    first, second = chained(site)
    run, folder = element(site, first, second)
    done = step("--element", run, "0")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    (output,) = (folder / second.key).glob("outputs/output_path")
    assert {path.name: path.read_text() for path in output.iterdir()} == {"a": "13", "b": "89"}
    records = [folder / one.key / "record.json" for one in (first, second)]
    assert [json.loads(one.read_text())["key"] for one in records] == [first.key, second.key]
    before = [one.stat().st_mtime_ns for one in records]
    assert step("--element", run, "0").returncode == 0
    assert [one.stat().st_mtime_ns for one in records] == before
    with pytest.raises(WrongHash, match=f"is of another step: it names '{first.key}'"):
        recorded(folder / first.key, second.key)


def test_an_element_that_was_cut_off_begins_its_step_anew(site: Path) -> None:
    first, second = chained(site)
    run, folder = element(site, first, second)
    left = folder / first.key / "outputs" / "output_path"
    left.mkdir(parents=True)
    (left / "half").write_text("of it")
    assert step("--element", run, "0").returncode == 0
    assert {path.name for path in left.iterdir()} == {"a", "b"}


def test_an_element_ends_where_a_step_fails(site: Path) -> None:
    (site / "p.yaml").write_text("no number")
    first, second = chained(site)
    run, folder = element(site, first, second)
    done = step("--element", run, "0")
    assert done.returncode == 1 and "task infer failed with exit code 1" in done.stderr
    assert not (folder / second.key / "outputs").exists()
    found = Element.read(folder)
    assert found is not None and is_over(folder, found)


def test_what_somebody_deleted_of_the_content_is_named(site: Path) -> None:
    run, _ = element(site, *chained(site))
    shutil.rmtree(site / "data")
    done = step("--element", run, "0")
    assert done.returncode == 1
    assert f"{site / 'data'}, which this reads, is gone\nRun it again" in done.stderr


def test_an_element_that_cannot_be_read_is_named_with_what_mends_it(site: Path) -> None:
    run, folder = element(site, *chained(site))
    (folder / "element.json").write_text("{")
    done = step("--element", run, "0")
    assert done.returncode == 1 and f"Delete {folder}: " in done.stderr


def test_a_job_does_nothing_to_what_took_the_place_of_its_element(site: Path) -> None:
    first, second = chained(site)
    run, folder = element(site, first, second)
    text = json.loads((folder / "element.json").read_text())
    (folder / "element.json").write_text(json.dumps({**text, "ticket": "another"}))
    done = step("--element", run, "0")
    assert done.returncode == 1 and f"element {'ef' * 32} was taken back" in done.stderr
    assert not (folder / first.key / "outputs").exists()
    assert step("--element", run, "1").returncode == 2
    text = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**text, "gpus": 8}))
    done = step("--element", run, "0")
    assert done.returncode == 1 and "is not the run that its name says" in done.stderr
