"""Offline is offline: no socket, the copy at hand, and one line that says so."""

import json
from pathlib import Path

import pytest

from medperf_client.cli import medperf
from tests.support.commands import COMMANDS, leaves, moved, words_of
from tests.support.consortium import Consortium, Member


@pytest.mark.parametrize("command", COMMANDS)
def test_offline_opens_no_socket(
    consortium: Consortium, waiting: Member, tmp_path: Path, command: str
) -> None:
    member = moved(waiting, tmp_path / "home")
    done = member.run(*words_of(command, consortium, tmp_path), "--offline")
    assert done.returncode == 0, done.stderr


def test_every_command_is_tried_offline() -> None:
    untried = [
        name
        for name in leaves(medperf, "")
        if not any(f"{command} ".startswith(f"{name} ") for command in COMMANDS)
    ]
    assert untried == []


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


def test_offline_queues_what_the_registry_has_to_hear(traveller: Member) -> None:
    for words in (
        ("benchmark", "approve", "1", "-y"),
        ("container", "submit", "--name", "x", "--container-config-file", "http://h/c.yaml", "-y"),
        ("container", "associate", "--benchmark", "1", "--model_uid", "2", "-y"),
    ):
        done = traveller.run(*words, "--offline")
        assert done.returncode == 0, done.stderr
        assert "Queued as q" in done.stdout and "offline" in done.stderr
        assert traveller.run(*words, "--offline", "--require-online").returncode == 3


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
