"""Fixtures for every test: the product on the import path, a registry, a PostgreSQL cluster."""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.registry import IMPORT_ROOTS, Registry
from tests.support.services import PostgresCluster, postgres_cluster

sys.path[:0] = IMPORT_ROOTS


# Fixtures of things that a machine has one of: tests that use one go to one process.
ENGINES = {"engine", "podman", "any_engine"}


# Before the plugin that hands them out looks.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where several processes share the work, a file's tests stay together, and an engine's."""
    for item in items:
        uses_engine = ENGINES.intersection(getattr(item, "fixturenames", ()))
        group = "engines" if uses_engine else str(item.path.relative_to(config.rootpath))
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    """A fresh registry of the test's own: entities count from 1."""
    yield from Registry.serving(tmp_path / "registry")


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
