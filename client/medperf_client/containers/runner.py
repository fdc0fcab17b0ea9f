"""What a platform must do: get an image, and run one task of a container in it."""

from abc import ABC, abstractmethod
from pathlib import Path

from medperf_client.containers.job import Job, Limits
from medperf_client.containers.spec import ContainerSpec
from medperf_client.errors import Unsupported


class Runner(ABC):
    """A container platform. Instances hold no state of a run, so threads may share one.

    What `provide` made ready is named by the job: any other instance can run it.
    """

    name: str
    # The kinds of container (`ContainerSpec.kind`) it runs.
    kinds: tuple[str, ...]

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
        """The ID of the image `spec` names, if it is here.

        It is the SHA-256 of the image's configuration, as 64 hexadecimal digits, whatever a
        platform itself calls it. With `expected` (that, or the digest of a manifest or an index)
        that image is asked for, whatever its name is. Opens no connection but to the local engine,
        and imports nothing slow for an image that it has seen: an unchanged repeat of a test calls
        this and nothing else of the runner.
        """

    @abstractmethod
    def provide(
        self, spec: ContainerSpec, archive: Path | None = None, expected: str | None = None
    ) -> str:
        """Make the image of `spec` ready to run, and return its ID.

        `archive` is the local copy of what `spec.image` points at, for the kinds whose image is
        a file. With `expected` (see `image_id`) an image that is present is never fetched again,
        and another image is refused.

        Raises `Unsupported` for a kind this platform cannot run, `WrongHash` if the image is
        not the expected one, `Offline` if it must be fetched and cannot be.
        """

    def local_id(self, spec: ContainerSpec, image_id: str) -> str:
        """What the platform itself calls an image that `provide` made ready, as a job names it."""
        return image_id

    def local_file(self, spec: ContainerSpec, image_id: str, archive: Path | None) -> Path | None:
        """The file or folder that such an image is, as a job names it; None if an engine has it."""
        return archive

    def not_held(self) -> list[str]:
        """To what this platform holds no task here, and what is otherwise than on an engine."""
        return []

    def warning(self, limits: Limits) -> str:
        """What a person must be told once before a task runs here with these limits."""
        return ""

    @abstractmethod
    def keep(self, spec: ContainerSpec, image_id: str) -> None:
        """Copy an image that is here into the cache, so that `provide` needs nobody for it again.

        Does nothing if there is a copy, and for the kinds whose image is a file.
        """

    def sweep(self) -> list[str]:
        """End what clients killed with SIGKILL left running; returns the names of it."""
        return []

    @abstractmethod
    def run(self, job: Job) -> None:
        """Run one task to its end, the ends of its output in `job.log`.

        It cannot change its inputs. Copies of them, what its image leaves open to it (unless
        `Limits.read_only_root`) and TMPDIR, which is on a disk, are its own to change, and go with
        it. Its outputs are what lies at their mount paths in the end.

        Leaves nothing behind, whether it ends well, fails, times out or is interrupted by
        `KeyboardInterrupt`. Raises `ContainerFailed`.
        """
