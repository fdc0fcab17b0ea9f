"""Fixtures for the cache's tests: a cache of the test's own."""

from pathlib import Path

import pytest

from medperf_cache import Storage
from tests.support.disks import small_disk  # noqa: F401


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    """An empty cache."""
    return Storage(tmp_path / "cache")
