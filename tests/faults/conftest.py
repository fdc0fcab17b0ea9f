"""A registry with something in it, for one module of tests."""

from collections.abc import Iterator

import pytest

from medperf_client.registry.client import Registry as Client
from tests.support.disks import small_disk  # noqa: F401
from tests.support.people import Person, behind_proxy, container
from tests.support.registry import Registry


@pytest.fixture(scope="module")
def with_benchmark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry with an approved benchmark, UID 1, and a container called taken."""
    for registry in Registry.serving(tmp_path_factory.mktemp("registry")):
        client = Client(registry.url, registry.token_for("committee@example.org"))
        for name in ("preparator", "reference", "metrics", "taken"):
            client.post("/mlcubes/", container(name).body, name)
        body = {
            "name": "benchmark",
            "demo_dataset_tarball_hash": "0" * 64,
            "demo_dataset_tarball_url": "https://example.org/demo.tar.gz",
            "data_preparation_mlcube": 1,
            "reference_model_mlcube": 2,
            "data_evaluator_mlcube": 3,
            "state": "OPERATION",
        }
        client.post("/benchmarks/", body, "benchmark")
        admin = Client(registry.url, registry.token_for("admin@example.org", admin=True))
        admin.put("/benchmarks/1/", {"approval_status": "APPROVED"}, "approve")
        yield registry


@pytest.fixture
def person(with_benchmark: Registry) -> Iterator[Person]:
    """A member who reaches the registry through a proxy, and has synced."""
    yield from behind_proxy(with_benchmark)


@pytest.fixture
def direct(with_benchmark: Registry, person: Person) -> Client:
    """The registry as the member sees it, with no proxy between."""
    return Client(with_benchmark.url, person.token)
