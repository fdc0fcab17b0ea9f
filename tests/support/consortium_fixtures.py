"""A consortium that has the tutorial's benchmark, shared or a test's own, and newcomers."""

import itertools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.consortium import Consortium, Member
from tests.support.registry import Registry

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def consortium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Consortium]:
    """A consortium that runs containers as processes; benchmark 1 is approved. Never stopped."""
    consortium = _with_benchmark(tmp_path_factory.mktemp("consortium"))
    yield consortium
    consortium.stop()


@pytest.fixture(scope="session")
def beginning(tmp_path_factory: pytest.TempPathFactory) -> Consortium:
    """How every consortium of a test's own begins."""
    consortium = _with_benchmark(tmp_path_factory.mktemp("beginning"))
    consortium.stop()
    return consortium


@pytest.fixture
def own_consortium(beginning: Consortium, tmp_path: Path) -> Iterator[Consortium]:
    """A consortium of the test's own, to stop and start."""
    consortium = beginning.copied(tmp_path)
    yield consortium
    consortium.stop()


def _with_benchmark(folder: Path) -> Consortium:
    registry = Registry(folder / "registry")
    registry.initialise()
    registry.start()
    consortium = Consortium(folder, registry, "process")
    consortium.make_benchmark()
    return consortium


@pytest.fixture
def newcomer(consortium: Consortium) -> Member:
    """A member of the consortium who has just joined: nothing is cached."""
    return consortium.member(f"newcomer-{next(_numbers)}")


@pytest.fixture
def model_copy(consortium: Consortium, tmp_path: Path) -> Callable[[], Path]:
    """Makes copies of the candidate model's folder, to change."""

    def copy() -> Path:
        target = tmp_path / f"model-{next(_numbers)}"
        shutil.copytree(consortium.candidate, target)
        return target

    return copy
