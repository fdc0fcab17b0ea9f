"""Fixtures for tests on a real engine: import them into the conftest that needs them."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.support.engine import docker_client
from tests.support.images import ImageRegistry, base_image

if TYPE_CHECKING:
    from docker import DockerClient


@pytest.fixture(scope="session")
def engine() -> Iterator["DockerClient"]:
    """A client of the machine's Docker engine."""
    client = docker_client()
    yield client
    client.close()


@pytest.fixture(scope="session")
def python_image(engine: "DockerClient") -> str:
    """The ID of an image with Python and nothing else."""
    return str(engine.images.get(base_image(engine)).id).removeprefix("sha256:")


@pytest.fixture
def image_registry(
    engine: "DockerClient", tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ImageRegistry]:
    """An image registry, empty and serving."""
    registry = ImageRegistry(tmp_path_factory.mktemp("images"))
    registry.start()
    yield registry
    registry.stop()
