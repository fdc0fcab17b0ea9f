"""The scripts that README, CI and users rely on are there, run, and say how they are used."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.forks import IMPORT_ROOTS, ROOT


@pytest.mark.parametrize(
    "script",
    [
        *("demo", "test", "bench", "services", "../.ci/run"),
        *("lib/apptainer.sh", "lib/containerd.sh", "lib/userland.sh", "lib/venv.sh"),
    ],
)
def test_scripts_are_sound_bash(script: str) -> None:
    path = ROOT / "scripts" / script
    assert script.endswith(".sh") or os.access(path, os.X_OK)
    done = subprocess.run(["bash", "-n", str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_demo_plays_to_its_end() -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MEDPERF_")}
    environment["PYTHONPATH"] = os.pathsep.join(str(ROOT / part) for part in IMPORT_ROOTS)
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "tutorial.py"), "--platform", "process"],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert "4 results of 2 models on 2 datasets." in done.stderr
    assert "malignant: threshold, a count of 22" in done.stderr
    assert "malignant_share: redacted" in done.stdout
    assert "NOT TOLD APART FROM" in done.stdout and "2 forest plots" in done.stdout


def test_services_refuses_what_it_does_not_know() -> None:
    done = subprocess.run(
        [str(ROOT / "scripts" / "services"), "sideways"], capture_output=True, text=True
    )
    assert done.returncode == 2 and "up|down" in done.stderr


UNIT = ROOT / "scripts" / "systemd" / "medperf-sync.service"


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze")
def test_systemd_finds_nothing_wrong_with_the_sync_unit(tmp_path: Path) -> None:
    program = tmp_path / ".local" / "bin" / "medperf"
    program.parent.mkdir(parents=True)
    program.touch(0o755)
    own = {"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)}
    done = subprocess.run(
        ["systemd-analyze", "verify", "--user", "--man=no", str(UNIT)],
        env={**os.environ, **own},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_sync_unit_runs_a_command_that_exists() -> None:
    import click

    from medperf_client.cli import medperf

    unit = UNIT.read_text()
    (line,) = [line for line in unit.splitlines() if line.startswith("ExecStart=")]
    words = line.split()[1:]
    command = medperf.get_command(click.Context(medperf), words[0])
    assert command is not None
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known
