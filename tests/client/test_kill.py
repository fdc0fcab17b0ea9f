"""A command may die at any moment: the next one succeeds, and the cache is whole.

MEDPERF_TEST_KILLS says how often each kind of work is killed.
"""

import os
import random
import shutil
import tarfile
import time
from pathlib import Path

import pytest

from tests.support.consortium import Consortium, Member
from tests.support.kills import kill_at_random
from tests.support.reports import CONFIG

KILLS = int(os.environ.get("MEDPERF_TEST_KILLS", "4"))
LARGE_BYTES = 48 << 20


def assert_whole(member: Member) -> None:
    """Everything in the cache is what its name says."""
    assert member.json("storage", "verify")["damaged"] == []


def assert_nothing_left_behind(member: Member) -> None:
    """The cache holds no unfinished work once it was collected."""
    member.does("storage", "gc")
    incoming = member.home / "cache" / "incoming"
    assert not incoming.exists() or list(incoming.iterdir()) == []


@pytest.fixture
def large_archive(consortium: Consortium, tmp_path: Path) -> str:
    """The URL of an archive that takes a while to fetch and to unpack."""
    content = tmp_path / "content"
    content.mkdir()
    for number in range(12):
        (content / f"{number}.bin").write_bytes(os.urandom(LARGE_BYTES // 12))
    shutil.copy(consortium.candidate / "workspace/additional_files/weights.json", content)
    archive = consortium.host.folder / "assets" / "killed.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(content, arcname=".")
    return f"{consortium.host.url}assets/killed.tar"


def test_killed_downloads_and_unpacks_leave_the_cache_whole(
    consortium: Consortium, newcomer: Member, large_archive: str
) -> None:
    chance = random.Random(20)
    options = [*consortium.container_options("model_mlp")[:-1], large_archive]
    # Without -y and without an answer, nothing is sent: all its work is fetching and unpacking.
    words = ["container", "submit", "--name", "killed", *options]
    hit = 0
    longest = 1.0
    for _ in range(KILLS):
        hit += kill_at_random(newcomer, words, longest, chance)
        assert_whole(newcomer)
        started = time.monotonic()
        done = newcomer.run(*words, answers="n\n")
        longest = time.monotonic() - started
        assert "Nothing was sent." in done.stderr, done.stderr
        newcomer.does("storage", "gc", "--unused-days", "0")
    assert hit > 0
    assert_nothing_left_behind(newcomer)


def test_killed_tests_leave_the_cache_whole(consortium: Consortium, newcomer: Member) -> None:
    chance = random.Random(21)
    words = ["test", "run", "--benchmark", "1", "--model", str(consortium.candidate / CONFIG)]
    hit = 0
    longest = 1.0
    for _ in range(KILLS):
        hit += kill_at_random(newcomer, words, longest, chance)
        assert_whole(newcomer)
        started = time.monotonic()
        assert newcomer.json(*words)["passed"]
        longest = time.monotonic() - started
        newcomer.does("storage", "gc", "--unused-days", "0")
    assert hit > 0
    assert_nothing_left_behind(newcomer)


def test_an_interrupted_test_says_so_and_leaves_nothing(
    consortium: Consortium, newcomer: Member
) -> None:
    words = ["test", "run", "--benchmark", "1", "--model", str(consortium.candidate / CONFIG)]
    process = newcomer.start(*words)
    assert process.stderr is not None
    # Once the first step says that it runs, a container does.
    for line in process.stderr:
        if line.startswith("prepare: running"):
            break
    process.send_signal(2)
    _, rest = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Interrupted." in rest
    incoming = newcomer.home / "cache" / "incoming"
    assert list(incoming.iterdir()) == []
