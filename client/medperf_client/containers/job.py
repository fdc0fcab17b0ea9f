"""One run of a task as plain data: all that a process needs to run it, and JSON."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from medperf_client.containers.spec import Task
from medperf_client.errors import UsageError

# What a task is told of its user, who may have no name here and has none in a container.
USER = "medperf"


@dataclass(frozen=True)
class Limits:
    """Bounds on one run of a task.

    `seconds` is wall time (None: no bound), `pids` the number of processes and threads,
    `memory_bytes` the memory (None: what the machine has). `output_bytes` and `output_files` are
    what it may leave in its outputs together. With `read_only_root` it may not even write to its
    image's own folders, where what is written goes with the container.
    """

    seconds: float | None = None
    pids: int = 1024
    memory_bytes: int | None = None
    output_bytes: int = 10**11
    output_files: int = 1_000_000
    read_only_root: bool = False


@dataclass(frozen=True)
class Mount:
    """A file or folder of this machine that a task finds at `mount_path`."""

    path: Path
    mount_path: str
    read_only: bool


@dataclass(frozen=True)
class Job:
    """One run of a task. Whoever has the files that it names can run it: see `execution.jobs`.

    `platform` is the name of what runs it (`Runner.name`), `archive` the image where that is a file
    or a folder. What is mounted exists; what may be written to is an output, an empty folder or
    file of the caller's unless the task goes on with what it wrote before. `scratch` is where the
    platform may keep files while the task runs (None: TMPDIR); whoever made it deletes it, should
    this process be killed. `command`, `entrypoint`, `shm_size` and `gpus` are as in `Task`; the
    names of `task` and `model` are for people.
    """

    platform: str
    task: str
    image_id: str
    log: Path
    model: str = ""
    archive: Path | None = None
    command: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    shm_size: int | None = None
    gpus: int | tuple[str, ...] | None = None
    mounts: tuple[Mount, ...] = ()
    limits: Limits = field(default_factory=Limits)
    scratch: Path | None = None

    @classmethod
    def of(
        cls,
        platform: str,
        task: Task,
        image_id: str,
        inputs: Mapping[str, Path],
        outputs: Mapping[str, Path],
        log: Path,
        **more: Any,
    ) -> "Job":
        """A run of a task whose volumes lie at these paths, by name; `more` are other fields."""
        given = [(volume, inputs[volume.name], True) for volume in task.inputs]
        made = [(volume, outputs[volume.name], False) for volume in task.outputs]
        return cls(
            platform,
            task.name,
            image_id,
            log,
            command=task.command,
            entrypoint=task.entrypoint,
            environment=task.environment,
            shm_size=task.shm_size,
            gpus=task.gpus,
            mounts=tuple(
                Mount(path.resolve(), volume.mount_path, read_only)
                for volume, path, read_only in given + made
            ),
            **more,
        )

    @property
    def called(self) -> str:
        """What people are shown of it."""
        return called(self.task, self.model)

    def text(self) -> str:
        """The job as JSON."""
        return json.dumps(asdict(self), default=str)

    @classmethod
    def read(cls, text: str | bytes) -> "Job":
        """The job that `text` gave. Raises `UsageError` for anything else."""
        try:
            fields = json.loads(text)
            return cls(
                **{
                    **fields,
                    "log": Path(fields["log"]),
                    "archive": _path(fields["archive"]),
                    "scratch": _path(fields["scratch"]),
                    "command": _frozen(fields["command"]),
                    "entrypoint": _frozen(fields["entrypoint"]),
                    "gpus": _frozen(fields["gpus"]),
                    "mounts": tuple(
                        Mount(**{**mount, "path": Path(mount["path"])})
                        for mount in fields["mounts"]
                    ),
                    "limits": Limits(**fields["limits"]),
                }
            )
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise UsageError(f"this is no job: {error!r}") from error


def called(task: str, model: str = "") -> str:
    """What people are shown of a step: the task, and whose model it is about, if it is."""
    return f"{task} of {model}" if model else task


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
