"""A process container runs in a clean corner of the host, and all of it ends with its task."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from medperf_client.containers import launch
from medperf_client.containers.job import Job, Limits, Mount
from medperf_client.containers.process import ProcessRunner
from medperf_client.containers.spec import PROCESS, ContainerSpec, Task, Volume
from medperf_client.errors import ContainerFailed, Unsupported, WrongHash
from medperf_client.execution.work import Work
from tests.cache.processes import NOBODY
from tests.support.forks import IMPORT_ROOTS
from tests.support.processes import ended, ends

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
        job = Job.of(
            "process",
            task,
            runner.provide(SPEC, code),
            {"data_path": tmp_path / "data"},
            {"output_path": tmp_path / "results.json"},
            tmp_path / "job.log",
            archive=code,
            limits=limits or Limits(seconds=60),
        )
        runner.run(job)
        return (tmp_path / "results.json").read_text()

    return run


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder of the user without privileges."""
    with tempfile.TemporaryDirectory(prefix="medperf-process-") as name:
        if os.getuid() == 0:
            os.chown(name, NOBODY, NOBODY)
        yield Path(name)


def job(code: Path, log: Path, *command: str, **more: Any) -> Job:
    """A job that runs a command in a folder of code."""
    return Job("process", "infer", code.name, log, archive=code, command=command, **more)


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
    environment = {"EPOCHS": "3"}
    ProcessRunner(allowed=True).run(job(code, tmp_path / "log", "env", environment=environment))
    found = dict(line.split("=", 1) for line in (tmp_path / "log").read_text().splitlines())
    assert set(found) == {"PATH", "LANG", "HOME", "USER", "TMPDIR", "MEDPERF_VOLUMES", "EPOCHS"}
    assert (found["EPOCHS"], found["PATH"]) == ("3", os.environ["PATH"])
    assert found["HOME"] != os.environ.get("HOME")
    # Something to be called by: without a passwd entry there is no other.
    assert found["USER"] == "medperf"


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
    log = tmp_path / "log"
    # A shell, which is up well before the limit on any machine.
    words = ("sh", "-c", "sleep 60 & echo $!; wait")
    with pytest.raises(ContainerFailed, match="its limit of 2 s"):
        ProcessRunner(allowed=True).run(job(code, log, *words, limits=Limits(seconds=2)))
    assert ends(int(log.read_text()))


def test_what_it_leaves_running_ends_with_it(run: Run) -> None:
    child = int(run(HEAD + "results.write_text(str(subprocess.Popen(['sleep', '60']).pid))"))
    assert ends(child)


@contextmanager
def client_in_a_long_task(code: Path, tmp_path: Path) -> Iterator[tuple[Any, int]]:
    """A process whose container, the process of that number, runs now and would for a minute."""
    ready = tmp_path / "ready"
    os.mkfifo(ready)
    (code / "main.py").write_text(
        "import os, time\n"
        f"with open({str(ready)!r}, 'w') as ready: ready.write(str(os.getpid()))\n"
        "time.sleep(60)"
    )
    client = f"""
from pathlib import Path
from medperf_client.containers.job import Job
from medperf_client.containers.process import ProcessRunner
code, log = Path({str(code)!r}), Path({str(tmp_path)!r}, "log")
job = Job("process", "infer", code.name, log, archive=code, command=("python3", "main.py"))
ProcessRunner(allowed=True).run(job)
"""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(IMPORT_ROOTS),
        "TMPDIR": str(tmp_path),
    }
    with subprocess.Popen([sys.executable, "-c", client], env=environment) as process:
        task = int(ready.read_text())
        assert not ended(task)
        yield process, task


def test_who_is_not_root_cannot_undo_that_its_inputs_are_read_only(open_folder: Path) -> None:
    program, scan, place = (open_folder / name for name in ("launch.py", "scan.txt", "place"))
    shutil.copy(launch.__file__, program)
    scan.write_text("42")
    code = f"""
import runpy
launch = runpy.run_path({str(program)!r})
for attempt in (
    lambda: launch["_mount"](None, {str(place)!r}, launch["MS_REMOUNT"] | launch["MS_BIND"]),
    lambda: launch["_call"]("umount2", {os.fsencode(place)!r}, 0),
    lambda: open({str(place)!r}, "w"),
):
    try:
        attempt()
    except OSError as error:
        print(error.strerror)
import os
print(os.getuid(), os.stat({str(place)!r}).st_ino)
"""
    # One that everybody may execute; pytest's may lie in somebody's home.
    python = "/usr/bin/python3" if os.getuid() == 0 else sys.executable
    inputs = [[str(scan), str(place), True]]
    task = {"command": [python, "-c", code], "environment": {}, "inputs": inputs}
    (open_folder / "task.json").write_text(json.dumps(task))
    user = NOBODY if os.getuid() == 0 else os.getuid()
    for path in open_folder.iterdir():
        os.chown(path, user, -1)
    words = [python, "-I", "-S", str(program), str(open_folder / "task.json"), "2"]
    done = subprocess.run(words, user=user, capture_output=True, text=True, check=True)
    refused = ["Operation not permitted"] * 2 + ["Read-only file system"]
    assert done.stdout.splitlines() == [*refused, f"{user} {scan.stat().st_ino}"]
    assert scan.read_text() == "42"


def test_where_nothing_may_be_mounted_it_has_copies_of_what_is_kept(
    code: Path, tmp_path: Path
) -> None:
    kept, own = tmp_path / ("cd" * 32), tmp_path / "own"
    for folder in (kept, own):
        (folder / "sub").mkdir(parents=True)
        (folder / "sub" / "scan.txt").write_text("42")
        (folder / "sub" / "scan.txt").chmod(0o444)
    program = HEAD + (
        "(volumes / 'kept/sub/scan.txt').open('a').write('!')\n"
        "print((volumes / 'kept/sub/scan.txt').read_text(), os.readlink(volumes / 'own'))\n"
    )
    (code / "main.py").write_text(program)
    mounts = [
        Mount(path, f"/mlcommons/volumes/{name}", True)
        for name, path in (("kept", kept), ("own", own))
    ]
    words = ("python3", "main.py")
    task = job(code, tmp_path / "log", *words, mounts=tuple(mounts))
    (tmp_path / "work.json").write_text(Work(task, ()).text())
    module = ["-m", "medperf_client.executors.worker", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(IMPORT_ROOTS)}
    powerless = ["setpriv", "--bounding-set=-sys_admin"] if os.getuid() == 0 else []
    subprocess.run([*powerless, sys.executable, *module], env=environment, check=True)
    assert (tmp_path / "log").read_text() == f"42! {own}\n"
    assert (kept / "sub" / "scan.txt").read_text() == "42"


def test_an_output_folder_that_it_makes_anew_is_taken(code: Path, tmp_path: Path) -> None:
    made = tmp_path / "made"
    made.mkdir()
    (code / "main.py").write_text(
        HEAD + "folder = volumes / 'made'; folder.unlink(); folder.mkdir()\n"
        "(folder / 'result').write_text('7')"
    )
    mounts = (Mount(made, "/mlcommons/volumes/made", False),)
    runner = ProcessRunner(allowed=True)
    runner.run(job(code, tmp_path / "log", "python3", "main.py", mounts=mounts))
    assert (made / "result").read_text() == "7"


def test_a_log_that_cannot_be_written_ends_the_task(code: Path, tmp_path: Path) -> None:
    words = ("python3", "-c", "while True: print('x' * 10**6)")
    with pytest.raises(ContainerFailed, match="/dev/full cannot be written: No space left"):
        ProcessRunner(allowed=True).run(job(code, Path("/dev/full"), *words))


def test_ctrl_c_ends_the_whole_group(code: Path, tmp_path: Path) -> None:
    with client_in_a_long_task(code, tmp_path) as (client, task):
        client.send_signal(signal.SIGINT)
        assert client.wait(timeout=30) == -signal.SIGINT
    assert ends(task)
    assert list(tmp_path.glob("medperf-*")) == []


def test_a_client_that_is_killed_leaves_no_process(code: Path, tmp_path: Path) -> None:
    with client_in_a_long_task(code, tmp_path) as (client, task):
        client.kill()
    assert ends(task)


def test_a_program_that_is_not_there_is_named(code: Path, tmp_path: Path) -> None:
    with pytest.raises(ContainerFailed, match="infer.*no-such-program"):
        ProcessRunner(allowed=True).run(job(code, tmp_path / "log", "no-such-program"))


def test_code_that_is_not_at_hand_is_told(tmp_path: Path) -> None:
    with pytest.raises(ContainerFailed, match="infer cannot be run: its code is not at hand"):
        ProcessRunner(allowed=True).run(Job("process", "infer", DIGEST, tmp_path / "log"))


def test_it_runs_only_where_the_profile_allows_it(code: Path) -> None:
    with pytest.raises(Unsupported, match="model/container_config.yaml") as caught:
        ProcessRunner(allowed=False).provide(SPEC, code)
    assert "allow_process: true" in caught.value.hint


def test_it_says_plainly_that_nothing_is_isolated() -> None:
    assert "nothing is isolated" in ProcessRunner(allowed=True).warning(Limits())


def test_code_other_than_the_registered_is_refused(code: Path) -> None:
    runner = ProcessRunner(allowed=True)
    assert runner.image_id(SPEC, code) == DIGEST
    with pytest.raises(WrongHash, match=f"{DIGEST}.*{'cd' * 32}"):
        runner.provide(SPEC, code, expected="cd" * 32)
