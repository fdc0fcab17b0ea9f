"""What is private lies apart: the cache's own commands do not come to it."""

import os
import signal
from pathlib import Path

import pytest

from medperf_cache import Storage
from medperf_cache.private import Private
from tests.cache.processes import start


@pytest.fixture
def private(tmp_path: Path) -> Private:
    """What is private of a member who has nothing yet."""
    return Private(tmp_path / "private")


def test_nobody_else_may_look(private: Private, tmp_path: Path) -> None:
    private.blobs.add([b"a patient"])
    assert (tmp_path / "private").stat().st_mode & 0o077 == 0


def test_the_same_content_may_be_private_and_shared(private: Private, storage: Storage) -> None:
    assert private.blobs.add([b"same"]) == (digest := storage.blobs.add([b"same"]))
    storage.gc(0)
    assert digest in private.blobs and digest not in storage.blobs


def test_a_sweep_takes_what_dead_processes_left(private: Private, tmp_path: Path) -> None:
    def work() -> None:
        with Private(tmp_path / "private").scratch() as area:
            (area / "stage").write_text("1")
            os.kill(os.getpid(), signal.SIGKILL)

    process = start(work)
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    with private.scratch():
        assert private.sweep() == 1 and private.sweep() == 0
