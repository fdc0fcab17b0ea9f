"""A disk that is full while the queue is written or sent: told, and nothing is lost or doubled."""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from medperf_cache.outbox import Outbox
from medperf_client.registry.client import Registry as Client
from medperf_client.settings.config import Home
from tests.cache.processes import run_together
from tests.support.consortium import APPROVE, Member
from tests.support.disks import KIB, crowded, full
from tests.support.people import container
from tests.support.registry import Registry

OFFLINE = ("association", "approve", "--benchmark", "1", "-y", "--offline", "--model_uid")


@pytest.fixture
def member(small_disk: Path, registry: Registry) -> Member:
    """A member whose home is on the small disk, and who has synced."""
    member = Member(small_disk / "home", registry.url, registry.token_for("ada@example.org"))
    member.does("sync")
    return member


@pytest.fixture
def direct(member: Member, registry: Registry) -> Client:
    """The registry as the member sees it."""
    return Client(registry.url, member.environment["MEDPERF_TOKEN"])


def queue(member: Member, name: str) -> None:
    """Queue a container, in a process of its own: what is open here would stay open."""
    folder = Home(member.home, member.home / "cache").registry(
        member.environment["MEDPERF_SERVER_URL"]
    )
    made = container(name)
    run_together(
        lambda: Outbox(folder / "outbox").add(made.kind, made.method, made.path, made.body)
    )


def waiting(member: Member) -> Any:
    """What waits, whole."""
    return member.json("queue", "ls")


def test_what_does_not_fit_is_told_and_what_was_queued_stays(
    small_disk: Path, member: Member
) -> None:
    for model in ("1", "2", "3"):
        member.does(*OFFLINE, model)
    before = waiting(member)
    assert [entry["uid"] for entry in before] == ["q1", "q2", "q3"]
    with full(small_disk):
        for words in (APPROVE, ("queue", "edit", "q3", "--set", "approval_status=x"), ("sync",)):
            refused = member.run(*words)
            assert refused.returncode == 1 and refused.stdout == ""
            assert refused.stderr.startswith("Error: ") and "cannot be" in refused.stderr
            assert "Make room there" in refused.stderr and "Traceback" not in refused.stderr
    assert waiting(member) == before

    with full(small_disk, but_bytes=96 * KIB):
        large = f"approval_status={'x' * 96 * KIB}"
        refused = member.run("queue", "edit", "q1", "--set", large)
        assert refused.returncode == 1 and "disk is full" in refused.stderr
        # There is room to read.
        assert waiting(member) == before
    member.does(*APPROVE)
    assert [entry["uid"] for entry in waiting(member)] == ["q1", "q2", "q3", "q4"]


def test_a_sync_for_which_there_is_too_little_room_loses_and_doubles_nothing(
    small_disk: Path, member: Member, direct: Client
) -> None:
    codes = set()
    for room in range(0, 256, 16):
        queue(member, f"model-{room}")
        with full(small_disk, but_bytes=room * KIB):
            done = member.run("sync")
        assert "Traceback" not in done.stderr
        codes.add(done.returncode)
    # Some had too little, some had enough.
    assert codes == {0, 1}
    member.does("sync")
    assert waiting(member) == []
    there = [one["name"] for one in direct.pages("/me/mlcubes/")]
    assert sorted(there) == sorted(f"model-{room}" for room in range(0, 256, 16))


@pytest.mark.parametrize("leaves_no_room", [full, crowded])
def test_dropping_what_waits_frees_its_files_where_nothing_else_can(
    small_disk: Path,
    member: Member,
    tmp_path: Path,
    leaves_no_room: Callable[[Path], AbstractContextManager[None]],
) -> None:
    member.does("container", "create", "model", "--output", str(tmp_path / "model"))
    parameters = tmp_path / "parameters.yaml"
    parameters.write_bytes(os.urandom(1024 * KIB))
    files = ("--container-config-file", str(tmp_path / "model" / "container_config.yaml"))
    files += ("--parameters-file", str(parameters))
    member.does("container", "submit", "--name", "large", *files, "-y", "--offline")
    member.does(*OFFLINE, "1")
    with leaves_no_room(small_disk):
        assert member.json("storage", "gc", "--max-size", "0")["bytes"] == 0
        member.does("queue", "drop", "q1", "-y")
        assert [entry["uid"] for entry in waiting(member)] == ["q2"]
        assert member.json("storage", "gc", "--max-size", "0")["bytes"] > 1024 * KIB
    # There is room again, also for the next time.
    member.does(*OFFLINE, "2")
    with leaves_no_room(small_disk):
        member.does("queue", "drop", "q2", "-y")
        member.does("queue", "drop", "q3", "-y")
