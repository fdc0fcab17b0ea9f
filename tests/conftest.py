"""Fixtures for every test: the product on the import path, a registry, a PostgreSQL cluster."""

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests.support.forks import IMPORT_ROOTS
from tests.support.registry import Registry
from tests.support.services import PostgresCluster, postgres_cluster
from tests.support.tiers import is_asked_for, longest_first, unit

sys.path[:0] = IMPORT_ROOTS

# How long one case takes says how busy the machine is.
settings.register_profile("tests", deadline=None)
settings.load_profile("tests")


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--all`, as `scripts/test` has it."""
    parser.addoption(
        "--all", action="store_true", help="Run everything, on each engine and at full length."
    )


@pytest.fixture(scope="session")
def cases(request: pytest.FixtureRequest) -> int:
    """How many cases all fuzz tests try together; MEDPERF_TEST_CASES says another number."""
    most = 10_000 if request.config.getoption("--all") else 300
    return int(os.environ.get("MEDPERF_TEST_CASES", most))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is not asked for, and put first what takes longest."""
    # Who names files wants all that is in them.
    files = [Path(argument.partition("::")[0]) for argument in config.args]
    named = bool(files) and all(file.is_file() for file in files)
    everything = named or config.getoption("--all")
    left = [item for item in items if not is_asked_for(item, everything)]
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if item not in set(left)]
    if hasattr(config, "workerinput"):
        longest_first(items)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Share the tests out by unit, in the order that they have."""
    from xdist.scheduler import LoadScopeScheduling

    class ByUnit(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return unit(nodeid)

    config.option.loadscopereorder = False
    return ByUnit(config, log)


@pytest.fixture(autouse=True)
def same_folder() -> Iterator[None]:
    """A test that leaves the process in another folder fails, and not some other one after it."""
    before = Path.cwd()
    yield
    after = Path.cwd()
    os.chdir(before)
    assert after == before


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    """A fresh registry of the test's own: entities count from 1."""
    yield from Registry.serving(tmp_path / "registry")


@pytest.fixture
def town(registry: Registry) -> Iterator[Any]:
    """A town with benchmark 1 of the committee, approved, and everybody in the know."""
    from tests.support.town import towns

    yield from towns(registry)


@pytest.fixture(scope="session")
def shared_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """One registry for every test that keeps to members and names of its own."""
    yield from Registry.serving(tmp_path_factory.mktemp("registry"))


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresCluster]:
    """A PostgreSQL cluster; without one the test skips, or fails where it is required."""
    # Not under pytest's own folders: those are closed to the user that PostgreSQL runs as.
    with (
        tempfile.TemporaryDirectory(prefix="medperf-postgres-") as folder,
        postgres_cluster(Path(folder)) as cluster,
    ):
        yield cluster


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest) -> str | None:
    """A new database on each engine; None for one that a registry on SQLite makes itself."""
    if request.param == "sqlite":
        return None
    return str(request.getfixturevalue("postgres").new_database())
