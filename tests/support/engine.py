"""The Docker engine of this machine; without one a test skips, or fails where it is required."""

from typing import TYPE_CHECKING

from tests.support.services import require

if TYPE_CHECKING:
    from docker import DockerClient


def docker_client() -> "DockerClient":
    """A client of the engine that the environment names."""
    import docker
    import requests

    try:
        client = docker.from_env()
    except (docker.errors.DockerException, requests.RequestException) as error:
        require("docker", False, f"no engine answers: {error}")
        raise AssertionError("unreachable") from error
    return client
