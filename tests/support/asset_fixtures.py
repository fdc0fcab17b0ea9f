"""A registry that keeps files, in a folder and in a bucket, and who sends them."""

from collections.abc import Iterator

import pytest

from medperf_server.assets import Store, store_at
from tests.support.api import Member, NewMember
from tests.support.bucket import bucket
from tests.support.registry import Registry


@pytest.fixture(scope="module")
def files_in_bucket() -> Iterator[dict[str, str]]:
    """The settings of a registry whose files are in a bucket."""
    with bucket() as settings:
        yield settings


@pytest.fixture(scope="module", params=["folder", "bucket"])
def registry(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Registry]:
    """A registry with SQLite and a folder of files, and one with PostgreSQL and a bucket."""
    folder = tmp_path_factory.mktemp("assets")
    if request.param == "folder":
        yield from Registry.serving(folder)
        return
    settings = request.getfixturevalue("files_in_bucket")
    url = request.getfixturevalue("postgres").new_database()
    yield from Registry.serving(folder, url, **settings)


@pytest.fixture
def join(registry: Registry) -> NewMember:
    """Admits a new member."""
    return lambda name, admin=False: Member(registry, name, admin)


@pytest.fixture
def store(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Where the registry keeps its files."""
    for name, value in registry.settings.items():
        monkeypatch.setenv(name, value)
    place = registry.settings.get("MEDPERF_ASSETS", str(registry.folder / "assets"))
    return store_at(place, registry.settings.get("MEDPERF_S3_ENDPOINT"))
