"""The scripts that README, CI and users rely on are there, run, and say how they are used."""

import os
import subprocess

import pytest

from tests.support.registry import ROOT


@pytest.mark.parametrize(
    "script", ["demo", "test", "bench", "services", "../.ci/run", "lib/venv.sh"]
)
def test_scripts_are_sound_bash(script: str) -> None:
    path = ROOT / "scripts" / script
    assert script.endswith(".sh") or os.access(path, os.X_OK)
    done = subprocess.run(["bash", "-n", str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_services_refuses_what_it_does_not_know() -> None:
    done = subprocess.run(
        [str(ROOT / "scripts" / "services"), "sideways"], capture_output=True, text=True
    )
    assert done.returncode == 2 and "up|down" in done.stderr


def test_the_sync_unit_runs_a_command_that_exists() -> None:
    import click

    from medperf_client.cli import medperf

    unit = (ROOT / "scripts" / "systemd" / "medperf-sync.service").read_text()
    (line,) = [line for line in unit.splitlines() if line.startswith("ExecStart=")]
    words = line.split()[1:]
    command = medperf.get_command(click.Context(medperf), words[0])
    assert command is not None
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known
