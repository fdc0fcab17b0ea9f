"""Code run as a task of a container on any platform, and the containers that a process has left."""

import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from medperf_cache import Storage
from medperf_client.containers import owner
from medperf_client.containers.apptainer import ApptainerRunner
from medperf_client.containers.docker import DockerRunner
from medperf_client.containers.engine import socket_path
from medperf_client.containers.job import Job, Limits
from medperf_client.containers.library import Container, Input
from medperf_client.containers.runner import Runner
from medperf_client.containers.spec import ContainerSpec, Task, Volume
from medperf_client.execution.steps import Step, Steps
from tests.support.apptainer import Converted, processes_about, spec_of

if TYPE_CHECKING:
    from docker import DockerClient

NOBODY = 65534
INPUT = Volume("data_path", "/input", "directory")
OUTPUT = Volume("output_path", "/output", "directory")
# Where code finds its volumes, whichever platform runs it.
VOLUMES = """
import os, pathlib
volumes = pathlib.Path(os.environ.get("MEDPERF_VOLUMES", "/"))
"""
ATTEMPT = """
import os
def attempt(what, *arguments):
    try:
        what(*arguments)
    except OSError as error:
        print(what.__name__, error.errno)
    else:
        print(what.__name__, 'worked')
"""


@dataclass
class Sandbox:
    """Runs Python code as a task on one platform, as the product would run a container's.

    `client` is of an engine that makes its images; on Apptainer it runs what they are `converted`
    to.
    """

    image_id: str
    folder: Path
    runner: Runner = field(default_factory=DockerRunner)
    archive: Path | None = None
    client: "DockerClient | None" = None
    converted: Converted | None = None

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
        task = Task("infer", command=(python, "-c", code), inputs=(INPUT,), outputs=(OUTPUT,))
        return Job.of(
            self.runner.name,
            task,
            self.image_id,
            {"data_path": self.folder / "input"},
            {"output_path": self.folder / "output"},
            self.log,
            limits=limits or Limits(seconds=60),
            archive=self.archive,
            scratch=self.folder,
        )

    def run(self, code: str, limits: Limits | None = None, python: str = "python3") -> str:
        """Run `code` to its end; returns what it printed."""
        self.runner.run(self.job(code, limits, python))
        return self.log.read_text().strip()

    @cached_property
    def storage(self) -> Storage:
        """A cache, for steps."""
        return Storage(self.folder / "cache")

    def kept(self, folder: Path) -> Input:
        """A copy of a folder in the cache, as an input."""
        digest = self.storage.trees.copy(folder)
        return Input(self.storage.trees.path(digest), digest)

    def step(self, code: str, *outputs: Volume, task: str = "infer", **inputs: Input) -> Step:
        """Take a step that runs `code`, its inputs at `/<name>`; it may use `volumes`."""
        given = tuple(
            Volume(name, f"/{name}", "directory" if one.path.is_dir() else "file")
            for name, one in inputs.items()
        )
        tasks = {task: Task(task, ("python3", "-c", VOLUMES + code), inputs=given, outputs=outputs)}
        spec = ContainerSpec(self.runner.kinds[0], "an image", tasks, "container_config.yaml")
        archive, runner = self.archive, self.runner
        if self.converted:
            spec = replace(spec_of(self.converted.archive), tasks=tasks)
            archive, runner = self.converted.archive, ApptainerRunner(storage=self.storage)
            self.converted.put_into(self.storage)
        container = Container("it", None, spec, None, None, self.image_id, archive)
        if isinstance(runner, DockerRunner):
            # What this engine calls an image is noted with the copies.
            runner = DockerRunner(copies=self.storage.images)
        limits = Limits(seconds=60)
        steps = Steps(self.storage, lambda _: runner, self.logs, limits, use_memo=False)
        return steps.take(task, container, inputs)

    def again(self) -> "Sandbox":
        """The same in a folder of its own, by a runner of its own: a client is of one process."""
        folder = self.folder / "again"
        return Sandbox(self.image_id, folder, type(self.runner)(), self.archive)

    def left(self) -> list[str]:
        """What is left of the tasks that this process ran."""
        if self.converted or self.client is None:
            return processes_about(self.folder)
        return containers_of(self.client, os.getpid())

    @property
    def logs(self) -> Path:
        """Where steps write theirs."""
        return self.folder / "logs"


def as_nobody(function: Callable[[], object]) -> None:
    """Call `function` as a user without privileges who may use the engine."""
    if os.getuid() != 0:
        function()
        return
    path = socket_path()
    assert path is not None
    engine_group = os.stat(path).st_gid
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([engine_group])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            # One that everybody may execute; pytest's may lie in somebody's home.
            sys.executable = "/usr/bin/python3"
            function()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0


def containers_of(client: "DockerClient", process: int) -> list[str]:
    """The names of the containers that a process started and that are still there."""
    return [
        str(container.name)
        for container in client.containers.list(all=True, filters={"label": owner.LABEL})
        if container.labels[owner.LABEL].split("/")[3] == str(process)
    ]
