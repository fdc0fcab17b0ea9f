"""Two tasks never have the same GPU. The devices of these tests are those that a script tells."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from medperf_client.containers.spec import ALL_GPUS
from medperf_client.errors import Unsupported
from medperf_client.executors.gpus import Asked, Gpus

DEVICES = ("GPU-a", "GPU-b", "GPU-c")


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Has `nvidia-smi` be a script."""

    def tell(script: str) -> None:
        program = tmp_path / "nvidia-smi"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    return tell


def waits(gpus: Gpus, asked: Asked) -> tuple[threading.Thread, list[Asked]]:
    """A task that asks in a thread of its own, and what it was given by now."""
    given: list[Asked] = []

    def take() -> None:
        with gpus.taken(asked) as mine:
            given.append(mine)

    thread = threading.Thread(target=take, daemon=True)
    thread.start()
    thread.join(0.2)
    return thread, given


def test_each_task_has_devices_of_its_own(told: Callable[[str], None]) -> None:
    told("printf 'GPU-a\\nGPU-b\\nGPU-c\\n'")
    gpus = Gpus()
    with gpus.taken(2) as first:
        assert first == ("GPU-a", "GPU-b")
        with gpus.taken(1) as second:
            assert second == ("GPU-c",)
        two, given = waits(gpus, 2)
        every, all_given = waits(gpus, ALL_GPUS)
        named, named_given = waits(gpus, ("GPU-b",))
        assert given == all_given == named_given == []
        with gpus.taken(("GPU-c",)) as third:
            assert third == ("GPU-c",)
    for thread in (two, every, named):
        thread.join(30)
    assert len(given[0] or ()) == 2 and all_given == [DEVICES] and named_given == [("GPU-b",)]  # type: ignore[arg-type]


def test_more_than_there_are_is_refused(told: Callable[[str], None]) -> None:
    told("printf 'GPU-a\\nGPU-b\\nGPU-c\\n'")
    with (
        pytest.raises(Unsupported, match="asks for 4 GPUs, and this machine has 3"),
        Gpus().taken(4),
    ):
        pass


@pytest.mark.parametrize("script", ["exit 9", "true"])
def test_where_nobody_tells_the_devices_one_task_has_them_all(
    told: Callable[[str], None], script: str
) -> None:
    told(script)
    gpus = Gpus()
    with gpus.taken(1) as first:
        assert first == 1
        thread, given = waits(gpus, ("0", "1"))
        assert given == []
    thread.join(30)
    assert given == [("0", "1")]


def test_who_asks_for_none_waits_for_nobody(told: Callable[[str], None]) -> None:
    told("printf 'GPU-a\\n'")
    gpus = Gpus()
    with gpus.taken(ALL_GPUS), gpus.taken(None) as none, gpus.taken(0) as zero:
        assert (none, zero) == (None, 0)
