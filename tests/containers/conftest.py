"""Fixtures of the container tests: engines, a runner on each, and a way to run code on them."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from medperf_client.containers.apptainer import ApptainerRunner
from medperf_client.containers.process import ProcessRunner
from tests.support.apptainer import (  # noqa: F401
    Converted,
    converted,
    for_apptainer,
    on_path,
    open_folder,
)
from tests.support.docker_fixtures import (  # noqa: F401
    containerd,
    engine,
    image_registry,
    podman,
    python_image,
)
from tests.support.engine import docker_client
from tests.support.images import base_image, image_after
from tests.support.sandbox import Sandbox

if TYPE_CHECKING:
    from docker import DockerClient


ENGINES = ("docker", "containerd", "podman")
CONTAINED = (*ENGINES, "apptainer")
PLATFORMS = (*CONTAINED, "process")


def engine_called(
    name: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> "DockerClient":
    """A client of an engine, which DOCKER_HOST names to the product."""
    if name == "docker":
        client: DockerClient = request.getfixturevalue("engine")
        return client
    monkeypatch.setenv("DOCKER_HOST", request.getfixturevalue(name))
    return docker_client()


@pytest.fixture(params=ENGINES)
def any_engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> "DockerClient":
    """A client of each engine in turn."""
    return engine_called(request.param, request, monkeypatch)


@pytest.fixture
def engine_sandbox(any_engine: "DockerClient") -> Iterator[Sandbox]:
    """A sandbox on each engine in turn."""
    with open_folder() as folder:
        yield on_engine(any_engine, folder)


@pytest.fixture(params=CONTAINED)
def sandbox(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """A sandbox on each platform that isolates, in turn."""
    yield from sandbox_on(request.param, request, monkeypatch)


@pytest.fixture(params=PLATFORMS)
def anywhere(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """A sandbox on each platform in turn."""
    yield from sandbox_on(request.param, request, monkeypatch)


def sandbox_on(
    platform: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Sandbox]:
    """A sandbox on a platform."""
    with open_folder() as folder:
        if platform == "process":
            yield process_sandbox(folder)
        elif platform == "apptainer":
            image: Converted = request.getfixturevalue("for_apptainer")
            with on_path():
                yield apptainer_sandbox(image, folder, request.getfixturevalue("engine"))
        else:
            yield on_engine(engine_called(platform, request, monkeypatch), folder)


def on_engine(client: "DockerClient", folder: Path) -> Sandbox:
    """A sandbox on an engine."""
    image_id = str(client.images.get(base_image(client)).id).removeprefix("sha256:")
    return Sandbox(image_id, folder, client=client)


def apptainer_sandbox(image: Converted, folder: Path, client: "DockerClient") -> Sandbox:
    """A sandbox on Apptainer, whose images an engine makes."""
    runner = ApptainerRunner()
    return Sandbox(image.image_id, folder, runner, image.folder, client, image)


@pytest.fixture
def changed_image(sandbox: Sandbox) -> Iterator[Callable[[str], None]]:
    """Has the sandbox use an image that is its image once Python code ran there, as root."""
    assert sandbox.client is not None
    with ExitStack() as stack:
        folder = stack.enter_context(open_folder())

        def change(code: str) -> None:
            assert sandbox.client is not None
            sandbox.image_id = stack.enter_context(image_after(sandbox.client, code))
            if sandbox.converted:
                image = converted(sandbox.client, sandbox.image_id, folder)
                sandbox.converted, sandbox.archive = image, image.folder

        yield change


def process_sandbox(folder: Path) -> Sandbox:
    """A sandbox whose code runs as a process."""
    code = folder / "code"
    code.mkdir()
    (code / "main.py").touch()
    sandbox = Sandbox("", folder, ProcessRunner(allowed=True))
    kept = sandbox.kept(code)
    sandbox.image_id, sandbox.archive = kept.digest, kept.path
    return sandbox
