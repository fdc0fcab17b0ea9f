"""Apptainer for tests: the machine's own, or that of `scripts/services`, and images for it."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from medperf_cache import Storage
from medperf_cache.names import CONVERTED
from medperf_client.containers.apptainer import ApptainerRunner
from medperf_client.containers.sif import PROGRAMS
from medperf_client.containers.spec import DOCKER_ARCHIVE, ContainerSpec
from tests.support.services import require

if TYPE_CHECKING:
    from docker import DockerClient

FOLDER = os.environ.get("MEDPERF_TEST_APPTAINER", "/var/lib/medperf-test/bin")


def path_with_apptainer() -> str:
    """PATH with Apptainer on it; skips or fails by the rule of `require` where it does not run."""
    path = os.pathsep.join([FOLDER, os.environ["PATH"]])
    program = shutil.which(PROGRAMS[0], path=path)
    done = subprocess.run([program, "version"], capture_output=True, text=True) if program else None
    reason = done.stderr if done else f"it is neither on PATH nor in {FOLDER}"
    require("apptainer", done is not None and done.returncode == 0, reason)
    return path


def path_without_apptainer(folder: Path) -> str:
    """PATH that leads to the same programs, but to Apptainer."""
    for place in reversed(os.environ["PATH"].split(os.pathsep)):
        for program in Path(place).glob("*") if place else ():
            if program.name not in PROGRAMS:
                (folder / program.name).unlink(missing_ok=True)
                (folder / program.name).symlink_to(program)
    return str(folder)


@dataclass(frozen=True)
class Converted:
    """An image for Apptainer: its ID, its `docker save` archive, and what that was converted to.

    Everybody may read them.
    """

    image_id: str
    archive: Path
    folder: Path

    def put_into(self, storage: Storage) -> None:
        """Have a cache know it as converted."""
        storage.names.put(CONVERTED + self.image_id, storage.trees.copy(self.folder))


def spec_of(archive: Path) -> ContainerSpec:
    """A container that is such an archive, with no task."""
    return ContainerSpec(DOCKER_ARCHIVE, str(archive), {}, "container_config.yaml")


def converted(client: "DockerClient", image_id: str, folder: Path) -> Converted:
    """Convert an image that an engine has, in a folder that everybody may enter."""
    archive = folder / f"{image_id}.tar"
    with archive.open("wb") as file:
        file.writelines(client.api.get_image(f"sha256:{image_id}"))
    runner, spec = ApptainerRunner(storage=Storage(folder / "cache")), spec_of(archive)
    assert runner.provide(spec, archive) == image_id
    kept, made = runner.local_file(spec, image_id, archive), folder / image_id
    assert kept is not None
    shutil.copytree(kept, made)
    shutil.rmtree(folder / "cache")
    return Converted(image_id, archive, made)


@contextmanager
def open_folder() -> Iterator[Path]:
    """A folder that other users may enter."""
    with tempfile.TemporaryDirectory(prefix="medperf-sandbox-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture(scope="session")
def for_apptainer(engine: "DockerClient", python_image: str) -> Iterator[Converted]:
    """The image with Python and nothing else, converted."""
    with on_path(), open_folder() as folder:
        yield converted(engine, python_image, folder)


@contextmanager
def on_path() -> Iterator[None]:
    """Have the product find Apptainer, for the block."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", path_with_apptainer())
        yield


def processes_about(folder: Path) -> list[str]:
    """The commands of processes that were called, or that run, with a path below a folder."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            words, named = (place / "cmdline").read_bytes(), (place / "environ").read_bytes()
        except OSError:
            continue
        if str(folder).encode() in words + named and int(place.name) != os.getpid():
            found.append(words.replace(b"\0", b" ").decode(errors="replace"))
    return found
