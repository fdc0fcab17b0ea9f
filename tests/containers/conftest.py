"""Fixtures of the container tests: engines, a runner on each, and a way to run code on them."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from medperf_client.containers import owner
from medperf_client.containers.docker import DockerRunner
from medperf_client.containers.runner import Job, Limits
from medperf_client.containers.spec import Task, Volume
from tests.support.docker_fixtures import engine, image_registry, python_image  # noqa: F401
from tests.support.engine import docker_client
from tests.support.images import base_image
from tests.support.services import require

if TYPE_CHECKING:
    from docker import DockerClient


@pytest.fixture(scope="session")
def podman() -> Iterator[str]:
    """The address of a Podman service with a storage of its own."""
    program = shutil.which("podman")
    require("podman", program is not None, "podman is not installed")
    with tempfile.TemporaryDirectory(prefix="medperf-podman-") as folder:
        socket = Path(folder, "podman.sock")
        own = [f"--root={folder}/root", f"--runroot={folder}/run", f"--tmpdir={folder}/tmp"]
        with open(Path(folder, "log"), "wb") as log:
            service = subprocess.Popen(
                [str(program), *own, "--cgroup-manager=cgroupfs", "system", "service", "--time=0"]
                + [f"unix://{socket}"],
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


@pytest.fixture(params=["docker", "podman"])
def any_engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> "DockerClient":
    """A client of Docker's engine, then of Podman's, which DOCKER_HOST names to the product."""
    if request.param == "podman":
        monkeypatch.setenv("DOCKER_HOST", request.getfixturevalue("podman"))
        return docker_client()
    return request.getfixturevalue("engine")


@dataclass
class Sandbox:
    """Runs Python code as a task on one engine, as the product would run a container's."""

    image_id: str
    folder: Path
    runner: DockerRunner = field(default_factory=DockerRunner)

    def __post_init__(self) -> None:
        for name in ("input", "output"):
            (self.folder / name).mkdir()
        (self.folder / "input" / "scan.txt").write_text("42")

    @property
    def log(self) -> Path:
        """What the last task wrote."""
        return self.folder / "job.log"

    def job(self, code: str, limits: Limits | None = None, python: str = "python3") -> Job:
        """A task that runs `code`, with the volumes /input and /output."""
        task = Task(
            "infer",
            command=(python, "-c", code),
            inputs=(Volume("data_path", "/input", "directory"),),
            outputs=(Volume("output_path", "/output", "directory"),),
        )
        return Job(
            task,
            self.image_id,
            {"data_path": self.folder / "input"},
            {"output_path": self.folder / "output"},
            self.log,
            limits or Limits(seconds=60),
        )

    def run(self, code: str, limits: Limits | None = None, python: str = "python3") -> str:
        """Run `code` to its end; returns what it printed."""
        self.runner.run(self.job(code, limits, python))
        return self.log.read_text().strip()


def containers_of(client: "DockerClient", process: int) -> list[str]:
    """The names of the containers that a process started and that are still there."""
    return [
        str(container.name)
        for container in client.containers.list(all=True, filters={"label": owner.LABEL})
        if container.labels[owner.LABEL].split("/")[3] == str(process)
    ]


@pytest.fixture
def sandbox(any_engine: "DockerClient") -> Iterator[Sandbox]:
    """A sandbox on either engine, in a folder that other users may enter."""
    image_id = str(any_engine.images.get(base_image(any_engine)).id).removeprefix("sha256:")
    with tempfile.TemporaryDirectory(prefix="medperf-sandbox-") as folder:
        Path(folder).chmod(0o755)
        yield Sandbox(image_id, Path(folder))
