"""A process container runs in a clean corner of the host, and all of it ends with its task."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from medperf_client.containers.process import ProcessRunner
from medperf_client.containers.runner import Job, Limits
from medperf_client.containers.spec import PROCESS, ContainerSpec, Task, Volume
from medperf_client.errors import ContainerFailed, Unsupported, WrongHash
from tests.support.registry import IMPORT_ROOTS

SPEC = ContainerSpec(PROCESS, "project", {}, "model/container_config.yaml")
DIGEST = "ab" * 32

INPUT = Volume("data_path", "/mlcommons/volumes/data", "directory")
OUTPUT = Volume("output_path", "/mlcommons/volumes/results/results.json", "file")
Run = Callable[..., str]


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """A folder of code, named as the cache names it."""
    folder = tmp_path / DIGEST
    folder.mkdir()
    return folder


@pytest.fixture
def run(code: Path, tmp_path: Path) -> Run:
    """Run a program as the code of a container; returns what it put into its output file."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "scan.txt").write_text("42")
    (tmp_path / "results.json").touch()

    def run(program: str, limits: Limits | None = None, **environment: str) -> str:
        (code / "main.py").write_text(program)
        runner = ProcessRunner(allowed=True)
        task = Task(
            "infer",
            command=("python3", "main.py"),
            environment=environment,
            inputs=(INPUT,),
            outputs=(OUTPUT,),
        )
        job = Job(
            task,
            runner.provide(SPEC, code),
            {"data_path": tmp_path / "data"},
            {"output_path": tmp_path / "results.json"},
            tmp_path / "job.log",
            limits or Limits(seconds=60),
        )
        runner.run(job)
        return (tmp_path / "results.json").read_text()

    return run


HEAD = """
import json, os, pathlib, subprocess, sys, time
volumes = pathlib.Path(os.environ["MEDPERF_VOLUMES"], "mlcommons/volumes")
results = volumes / "results/results.json"
"""


def test_it_finds_its_volumes_at_their_mount_paths(run: Run) -> None:
    assert run(HEAD + "results.write_text((volumes / 'data/scan.txt').read_text())") == "42"


def test_its_environment_holds_nothing_of_the_callers(
    code: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDPERF_TOKEN", "secret")
    runner = ProcessRunner(allowed=True)
    task = Task("infer", ("env",), environment={"EPOCHS": "3"})
    runner.run(Job(task, runner.provide(SPEC, code), {}, {}, tmp_path / "log"))
    found = dict(line.split("=", 1) for line in (tmp_path / "log").read_text().splitlines())
    assert set(found) == {"PATH", "LANG", "HOME", "TMPDIR", "MEDPERF_VOLUMES", "EPOCHS"}
    assert (found["EPOCHS"], found["PATH"]) == ("3", os.environ["PATH"])
    assert found["HOME"] != os.environ.get("HOME")


def test_what_it_writes_beside_its_outputs_is_gone_and_its_code_untouched(
    run: Run, code: Path
) -> None:
    here = run(
        HEAD
        + "open('left', 'w').close(); open('main.py', 'a').write('#')\n"
        + "results.write_text(json.dumps([os.getcwd(), os.environ['HOME']]))"
    )
    assert [path.name for path in code.iterdir()] == ["main.py"]
    assert not (code / "main.py").read_text().endswith("#")
    assert not any(Path(place).exists() for place in json.loads(here))


def test_a_failure_shows_the_end_of_the_log(run: Run, tmp_path: Path) -> None:
    with pytest.raises(ContainerFailed, match=r"infer failed with exit code 7(.|\n)*line 39$") as e:
        run("import sys\nfor i in range(40): print('line', i)\nsys.exit(7)")
    assert str(tmp_path / "job.log") in str(e.value)
    assert "line 24" not in str(e.value)


def test_a_crash_names_the_signal(run: Run) -> None:
    with pytest.raises(ContainerFailed, match="infer was killed by signal 11"):
        run("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")


def test_its_whole_group_ends_at_the_time_limit(code: Path, tmp_path: Path) -> None:
    runner, log = ProcessRunner(allowed=True), tmp_path / "log"
    # A shell, which is up well before the limit on any machine.
    task = Task("infer", ("sh", "-c", "sleep 60 & echo $!; wait"))
    job = Job(task, runner.provide(SPEC, code), {}, {}, log, Limits(seconds=2))
    with pytest.raises(ContainerFailed, match="its limit of 2 s"):
        runner.run(job)
    assert ended(int(log.read_text()))


def test_what_it_leaves_running_ends_with_it(run: Run) -> None:
    child = run(HEAD + "results.write_text(str(subprocess.Popen(['sleep', '60']).pid))")
    assert ended(int(child))


def test_ctrl_c_ends_the_whole_group(code: Path, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    os.mkfifo(ready)
    (code / "main.py").write_text(
        "import os, time\n"
        f"with open({str(ready)!r}, 'w') as ready: ready.write(str(os.getpid()))\n"
        "time.sleep(60)"
    )
    client = f"""
from pathlib import Path
from medperf_client.containers.process import ProcessRunner
from medperf_client.containers.runner import Job
from medperf_client.containers.spec import PROCESS, ContainerSpec, Task
runner = ProcessRunner(allowed=True)
image = runner.provide(ContainerSpec(PROCESS, "project", {{}}, ""), Path({str(code)!r}))
task, log = Task("infer", ("python3", "main.py")), Path({str(tmp_path)!r}, "log")
runner.run(Job(task, image, {{}}, {{}}, log))
"""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(IMPORT_ROOTS),
        "TMPDIR": str(tmp_path),
    }
    with subprocess.Popen([sys.executable, "-c", client], env=environment) as process:
        task = int(ready.read_text())
        assert not ended(task)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == -signal.SIGINT
    assert ended(task)
    assert list(tmp_path.glob("medperf-*")) == []


def ended(process: int) -> bool:
    """Whether a process has ended (a killed orphan may wait to be reaped)."""
    try:
        return psutil.Process(process).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_program_that_is_not_there_is_named(code: Path, tmp_path: Path) -> None:
    runner = ProcessRunner(allowed=True)
    image = runner.provide(SPEC, code)
    job = Job(Task("infer", ("no-such-program",)), image, {}, {}, tmp_path / "log")
    with pytest.raises(ContainerFailed, match="infer.*no-such-program"):
        runner.run(job)


def test_it_runs_only_where_the_profile_allows_it(code: Path) -> None:
    with pytest.raises(Unsupported, match="model/container_config.yaml") as caught:
        ProcessRunner(allowed=False).provide(SPEC, code)
    assert "allow_process: true" in caught.value.hint


def test_it_says_plainly_that_nothing_is_isolated() -> None:
    assert "nothing is isolated" in ProcessRunner.notice


def test_code_other_than_the_registered_is_refused(code: Path) -> None:
    runner = ProcessRunner(allowed=True)
    assert runner.image_id(SPEC, code) == DIGEST
    with pytest.raises(WrongHash, match=f"{DIGEST}.*{'cd' * 32}"):
        runner.provide(SPEC, code, expected="cd" * 32)
