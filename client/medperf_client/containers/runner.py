"""What a platform must do: get an image, and run one task of a container in it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from medperf_client.containers.spec import ContainerSpec, Task
from medperf_client.errors import Unsupported


@dataclass(frozen=True)
class Limits:
    """Bounds on one run of a task.

    `seconds` is wall time (None: no bound), `pids` the number of processes and threads,
    `memory_bytes` the memory (None: what the machine has). `output_bytes` and `output_files` are
    what it may leave in its outputs together.
    """

    seconds: float | None = None
    pids: int = 1024
    memory_bytes: int | None = None
    output_bytes: int = 10**11
    output_files: int = 1_000_000


@dataclass(frozen=True)
class Job:
    """One run of a task: what it reads, where it writes, how long it may take.

    `inputs` and `outputs` map volume names to host paths. Inputs exist and are never changed;
    outputs exist too, an empty directory or an empty file, owned by the caller.
    """

    task: Task
    image_id: str
    inputs: Mapping[str, Path]
    outputs: Mapping[str, Path]
    log: Path
    limits: Limits = field(default_factory=Limits)


class Runner(ABC):
    """A container platform. Instances hold no state of a run, so threads may share one."""

    name: str
    # The kinds of container (`ContainerSpec.kind`) it runs.
    kinds: tuple[str, ...]
    # What a person must be told once before a task runs here.
    notice: str = ""

    def check(self, spec: ContainerSpec) -> None:
        """Raise `Unsupported` unless this platform runs containers of that kind."""
        if spec.kind not in self.kinds:
            raise Unsupported(
                f"{spec.source} is a container of kind {spec.kind}, which this machine cannot run",
                hint=f"The platform '{self.name}' runs {' and '.join(self.kinds)}. "
                "Ask the container's owner for one of these.",
            )

    def ready(self, spec: ContainerSpec) -> None:
        """Raise `Unsupported` unless a container of that kind could run here and now.

        Opens no connection but to the local engine.
        """
        self.check(spec)

    @abstractmethod
    def image_id(
        self, spec: ContainerSpec, archive: Path | None = None, expected: str | None = None
    ) -> str | None:
        """The ID (64 hexadecimal digits of a SHA-256) of the image `spec` names, if it is here.

        With `expected` (an image ID) that image is asked for, whatever its name is. Opens no
        connection but to the local engine, and imports nothing slow: an unchanged repeat of a
        test calls this and nothing else of the runner.
        """

    @abstractmethod
    def provide(
        self, spec: ContainerSpec, archive: Path | None = None, expected: str | None = None
    ) -> str:
        """Make the image of `spec` ready to run, and return its ID.

        `archive` is the local copy of what `spec.image` points at, for the kinds whose image is
        a file. With `expected` (an image ID) an image that is present is never fetched again,
        and another image is refused.

        Raises `Unsupported` for a kind this platform cannot run, `WrongHash` if the image is
        not the expected one, `Offline` if it must be fetched and cannot be.
        """

    @abstractmethod
    def keep(self, spec: ContainerSpec, image_id: str) -> None:
        """Copy an image that is here into the cache, so that `provide` needs nobody for it again.

        Does nothing if there is a copy, and for the kinds whose image is a file.
        """

    @abstractmethod
    def run(self, job: Job) -> None:
        """Run one task to its end, its output in `job.log`.

        Leaves nothing behind, whether it ends well, fails, times out or is interrupted by
        `KeyboardInterrupt`. Raises `ContainerFailed`.
        """
