"""A consortium that has the tutorial's benchmark, and newcomers to it."""

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
    folder = tmp_path_factory.mktemp("consortium")
    for registry in Registry.serving(folder / "registry"):
        yield from _with_benchmark(folder, registry)


@pytest.fixture
def own_consortium(tmp_path: Path, registry: Registry) -> Iterator[Consortium]:
    """A consortium of the test's own, to stop and start."""
    yield from _with_benchmark(tmp_path, registry)


def _with_benchmark(folder: Path, registry: Registry) -> Iterator[Consortium]:
    consortium = Consortium(folder, registry, "process")
    consortium.make_benchmark()
    yield consortium
    consortium.host.stop()


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
