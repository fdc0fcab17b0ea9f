"""Fixtures for tests on a real engine: import them into the conftest that needs them."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.engine import docker_client
from tests.support.images import ImageRegistry, base_image
from tests.support.services import require

if TYPE_CHECKING:
    from docker import DockerClient

# Docker with the containerd image store; `scripts/services` starts one, which sees /tmp as we do.
CONTAINERD_HOST = os.environ.get(
    "MEDPERF_TEST_CONTAINERD_HOST", "unix:///var/lib/medperf-test/sid/run/docker2.sock"
)


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


@pytest.fixture(scope="session")
def containerd() -> str:
    """The address of a Docker engine that keeps its images in containerd."""
    from docker import DockerClient, errors

    # An engine that was killed leaves its socket: only an answer tells.
    try:
        DockerClient(base_url=CONTAINERD_HOST).close()
    except errors.DockerException as error:
        require("containerd", False, f"no Docker engine answers at {CONTAINERD_HOST}: {error}")
    return CONTAINERD_HOST


@pytest.fixture(scope="session")
def podman() -> Iterator[str]:
    """The address of a Podman service with a storage of its own."""
    program = shutil.which("podman")
    require("podman", program is not None, "podman is not installed")
    with tempfile.TemporaryDirectory(prefix="medperf-podman-") as folder:
        socket = Path(folder, "podman.sock")
        # Docker's engines take any registry on loopback without TLS.
        Path(folder, "registries.conf").write_text(
            '[[registry]]\nlocation = "127.0.0.1"\ninsecure = true\n'
        )
        own = [f"--root={folder}/root", f"--runroot={folder}/run", f"--tmpdir={folder}/tmp"]
        with open(Path(folder, "log"), "wb") as log:
            service = subprocess.Popen(
                [str(program), *own, "--cgroup-manager=cgroupfs", "system", "service", "--time=0"]
                + [f"unix://{socket}"],
                env={**os.environ, "CONTAINERS_REGISTRIES_CONF": f"{folder}/registries.conf"},
                # When it ends a container for lack of memory, it says so in a file where it stands.
                cwd=folder,
                stdout=log,
                stderr=log,
            )
        try:
            while not socket.exists():
                try:
                    service.wait(timeout=0.1)
                except subprocess.TimeoutExpired:
                    continue
                require("podman", False, Path(folder, "log").read_text())
            # Tests also come as a user without privileges.
            Path(folder).chmod(0o755)
            socket.chmod(0o666)
            yield f"unix://{socket}"
        finally:
            service.terminate()
            service.wait(timeout=20)
            # Its storage is a mount point, with which the folder cannot be deleted.
            subprocess.run(["umount", f"{folder}/root/overlay"], capture_output=True)


@pytest.fixture
def image_registry(
    engine: "DockerClient", tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ImageRegistry]:
    """An image registry, empty and serving."""
    registry = ImageRegistry(tmp_path_factory.mktemp("images"))
    registry.start()
    yield registry
    registry.stop()
