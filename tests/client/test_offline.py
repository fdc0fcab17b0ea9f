"""Offline is offline: no socket, the copy at hand, and one line that says so."""

import json
from pathlib import Path

import pytest

from tests.support.consortium import Consortium, Member

# Ends the process at the first socket, and at the first name that is looked up.
GUARD = """
import os, sys

def end(event, arguments):
    if event.startswith("socket.") and event != "socket.gethostname":
        os.write(2, f"opened: {event}\\n".encode())
        os._exit(97)

sys.addaudithook(end)
"""
COMMANDS = [
    "benchmark ls --json",
    "benchmark view 1",
    "association ls -bm",
    "test run --benchmark 1 --model 2 --json",
    "test ls",
    "auth status",
    "profile view",
]


@pytest.fixture(scope="module")
def prepared(consortium: Consortium) -> Member:
    """A member who has used benchmark 1 once, with a guard against sockets from then on."""
    member = consortium.member("traveller")
    member.json("association", "ls", "-bm")
    member.json("test", "run", "--benchmark", "1", "--model", "2")
    guard = Path(member.home.parent / "guard")
    guard.mkdir()
    (guard / "sitecustomize.py").write_text(GUARD)
    member.environment["PYTHONPATH"] = f"{guard}:{member.environment['PYTHONPATH']}"
    return member


@pytest.mark.parametrize("command", COMMANDS)
def test_offline_opens_no_socket(prepared: Member, command: str) -> None:
    done = prepared.run(*command.split(), "--offline")
    assert done.returncode == 0, done.stderr


def test_the_environment_says_offline_too(prepared: Member) -> None:
    asked = Member(prepared.home, prepared.environment["MEDPERF_SERVER_URL"])
    # No token either: what is here needs none.
    asked.environment |= {"MEDPERF_OFFLINE": "1", "PYTHONPATH": prepared.environment["PYTHONPATH"]}
    done = asked.run("benchmark", "ls")
    assert done.returncode == 0 and "breast-cancer" in done.stdout
    assert done.stderr.startswith("offline: showing the copy of 20")
    assert len(done.stderr.splitlines()) == 1
    asked.environment["MEDPERF_OFFLINE"] = "0"
    assert asked.run("benchmark", "ls").returncode == 1


def test_the_guard_sees_a_socket(prepared: Member) -> None:
    done = prepared.run("benchmark", "ls")
    assert done.returncode == 97 and "opened: socket." in done.stderr


def test_offline_queues_what_the_registry_has_to_hear(prepared: Member) -> None:
    for words in (
        ("benchmark", "approve", "1", "-y"),
        ("container", "submit", "--name", "x", "--container-config-file", "http://h/c.yaml", "-y"),
        ("container", "associate", "--benchmark", "1", "--model_uid", "2", "-y"),
    ):
        done = prepared.run(*words, "--offline")
        assert done.returncode == 0, done.stderr
        assert "Queued as q" in done.stdout and "offline" in done.stderr
        assert prepared.run(*words, "--offline", "--require-online").returncode == 3


def test_offline_refuses_a_test_of_what_is_not_here(prepared: Member) -> None:
    done = prepared.run(
        *("test", "run", "--benchmark", "1", "--demo-url", "http://h/demo.tar.gz", "--offline")
    )
    assert done.returncode == 1 and "Leave --offline and MEDPERF_OFFLINE away" in done.stderr
    assert "Traceback" not in done.stderr


def test_offline_without_a_copy_says_what_to_do(tmp_path: Path) -> None:
    stranger = Member(tmp_path / "home", "http://127.0.0.1:1", token="mpf_x")
    done = stranger.run("benchmark", "ls", "--offline")
    assert done.returncode == 1 and "no copy of it here yet" in done.stderr
    assert "Run the command once while the registry can be reached." in done.stderr


def test_a_registry_that_is_away_is_one_line_and_the_copy(prepared: Member) -> None:
    away = Member(prepared.home, prepared.environment["MEDPERF_SERVER_URL"], token="mpf_x")
    # A proxy where nobody listens takes the network away, and leaves the registry where it is.
    away.environment |= {"http_proxy": "http://127.0.0.1:1", "no_proxy": ""}
    done = away.run("benchmark", "ls", "--json")
    assert done.returncode == 0 and json.loads(done.stdout)[0]["name"] == "breast-cancer"
    assert len(done.stderr.splitlines()) == 1 and "Connection refused" in done.stderr
