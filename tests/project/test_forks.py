"""A forked command is what an executed one is, to whoever started it."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support import forks
from tests.support.consortium import Member

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="it forks on Linux")

Started = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def member(tmp_path: Path) -> Member:
    """Somebody whose registry cannot be reached."""
    return Member(tmp_path / "home", "http://127.0.0.1:9")


@pytest.fixture(params=[subprocess.Popen, forks.Popen], ids=["executed", "forked"])
def start(request: pytest.FixtureRequest, member: Member) -> Started:
    """Starts a command of the member's, in either way."""

    def start(*words: str, **options: Any) -> "subprocess.Popen[str]":
        options = {"env": member.environment, "text": True, "cwd": member.home.parent, **options}
        pipe = subprocess.PIPE
        options = {"stdin": subprocess.DEVNULL, "stdout": pipe, "stderr": pipe, **options}
        started: subprocess.Popen[str] = request.param(member.command(*words), **options)
        return started

    return start


def test_a_fork_executes_nothing(member: Member) -> None:
    # It waits for what is typed.
    words, pipe = member.command("auth", "login"), subprocess.PIPE
    with forks.Popen(words, env=member.environment, stdin=pipe, stderr=pipe) as process:
        command = Path(f"/proc/{process.pid}/cmdline").read_bytes()
        process.kill()
    assert b"forks.py" in command


def test_its_exit_code_and_its_streams_are_its_own(start: Started) -> None:
    process = start("benchmark", "view", "x", stdin=subprocess.PIPE)
    out, err = process.communicate("nothing that it reads")
    assert (process.returncode, out) == (2, "") and err.startswith("Usage: medperf benchmark view")
    with start("--help") as process:
        assert process.stdout is not None and "Usage: medperf" in process.stdout.read()
    assert process.returncode == 0


def test_both_streams_may_be_one(start: Started) -> None:
    out, err = start("bogus", stderr=subprocess.STDOUT).communicate(timeout=60)
    assert err is None and "No such command 'bogus'" in out


def test_its_folder_and_its_environment_are_its_own(start: Started, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    start("container", "create", "model", "--output", "new", cwd=tmp_path / "here").communicate(
        timeout=60
    )
    assert (tmp_path / "here" / "new").is_dir()
    home = {"MEDPERF_HOME": str(tmp_path / "another")}
    process = start(
        "profile", "set", "server_url", "http://127.0.0.1:7", env={**os.environ, **home}
    )
    assert process.communicate(timeout=60) and (tmp_path / "another").is_dir()


def test_it_is_killed_and_waited_for_like_any_other(start: Started) -> None:
    # It waits for what is typed.
    process = start("auth", "login", stdin=subprocess.PIPE)
    assert process.poll() is None
    process.kill()
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    with pytest.raises(ChildProcessError):
        os.waitpid(process.pid, 0)


def test_an_interpreter_with_other_settings_is_another_one(member: Member, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.stderr.write('it began')")
    member.environment["PYTHONPATH"] = f"{tmp_path}:{member.environment['PYTHONPATH']}"
    assert member.run("--help").stderr == "it began"
