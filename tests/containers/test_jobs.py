"""A job holds all that a run takes: any process can run it, and what it gives is the same."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from medperf_cache import tree_digest
from medperf_client.containers.job import Job, Limits
from medperf_client.containers.spec import Task, Volume
from medperf_client.errors import ContainerFailed, Unsupported, UsageError
from medperf_client.execution.jobs import execute
from tests.support.forks import IMPORT_ROOTS

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


def job(site: Path, name: str) -> Job:
    """A job that writes to a new folder of that name."""
    (site / name).mkdir()
    return Job.of(
        "process",
        TASK,
        "ab" * 32,
        {"data_path": site / "data", "parameters_file": site / "p.yaml"},
        {"output_path": site / name},
        site / f"{name}.log",
        model="container 4 (mlp)",
        archive=site / "code",
        limits=Limits(seconds=60),
    )


def run(file: Path, folder: Path) -> "subprocess.CompletedProcess[str]":
    """Run a job's file in a process that has nothing else: no home, no settings."""
    return subprocess.run(
        [sys.executable, "-m", "medperf_client.execution.jobs", str(file)],
        env={"PYTHONPATH": os.pathsep.join(IMPORT_ROOTS), "PATH": os.environ["PATH"]},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_a_bare_process_gives_what_this_one_does(site: Path) -> None:
    execute(job(site, "here"))
    assert {path.name: path.read_text() for path in (site / "here").iterdir()} == {
        "a": "5",
        "b": "43",
    }
    file = site / "job.json"
    file.write_text(job(site, "there").text())
    before = {path.name for path in site.iterdir()}
    done = run(file, site)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert tree_digest(site / "there") == tree_digest(site / "here")
    assert {path.name for path in site.iterdir()} - before == {"there.log"}


def test_a_job_is_what_its_text_says(site: Path) -> None:
    plain = job(site, "out")
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
    for one in (plain, every, Job("process", "infer", "ab" * 32, Path("/log"), gpus=-1)):
        assert Job.read(one.text()) == one
    assert plain.mounts[0].read_only and not plain.mounts[-1].read_only


def test_a_job_that_fails_names_its_model_and_its_log(site: Path) -> None:
    (site / "p.yaml").write_text("no number")
    file = site / "job.json"
    file.write_text(job(site, "out").text())
    done = run(file, site)
    assert done.returncode == 1
    assert "task infer of container 4 (mlp) failed with exit code 1" in done.stderr
    assert str(site / "out.log") in done.stderr and "Traceback" in done.stderr
    with pytest.raises(ContainerFailed, match=r"task infer of container 4 \(mlp\) failed"):
        execute(Job.read(file.read_text()))


def test_what_is_no_job_is_refused(site: Path) -> None:
    fields = json.loads(job(site, "out").text())
    for text in ("", "[]", "{}", json.dumps({**fields, "sudo": True}), "{" * 5, "[" * 100_000):
        with pytest.raises(UsageError, match="this is no job"):
            Job.read(text)
    with pytest.raises(Unsupported, match="no platform 'toaster' here to run task infer"):
        execute(Job.read(json.dumps({**fields, "platform": "toaster"})))
    done = run(site / "nowhere.json", site)
    assert done.returncode == 2 and "nowhere.json: No such file" in done.stderr
