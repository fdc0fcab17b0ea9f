"""What a container_config.yaml says: MedPerf's contract, checked and made plain data."""

import itertools
import posixpath
import re
import reprlib
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from medperf_cache.signatures import described
from medperf_client.errors import InvalidContainer

DOCKER_IMAGE, DOCKER_ARCHIVE, PROCESS = "DockerImage", "DockerArchive", "Process"
SINGULARITY_FILE = "SingularityFile"
MLCUBE, WORKFLOW = "MLCube", "Workflow"
CONTAINER_TYPES = (
    DOCKER_IMAGE,
    DOCKER_ARCHIVE,
    PROCESS,
    SINGULARITY_FILE,
    "EncryptedDockerArchive",
    "EncryptedSingularityFile",
)
# Whose image is one file, which is run as it is or loaded.
IMAGE_FILES = (DOCKER_ARCHIVE, SINGULARITY_FILE)
RUN_ARGS = ("command", "entrypoint", "environment", "shm_size", "gpus")
# The variable by which a task says that the entries of an input's folder are cases, each by itself.
# Plain MedPerf refuses keys that it does not know, and hands a variable on.
CASES = "MEDPERF_CASES"
ALL_GPUS = -1
# What an engine takes as a number.
MOST_NUMBER, MOST_DIGITS = 2**63, 10

RAW_HINT = "Check the URL; for GitHub it is that of the raw file."
# A few lines of YAML aliases can stand for terabytes of text.
_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxstring = 2, 80
# A name becomes a file name and a part of messages.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_ABSOLUTE = re.compile(r"/(?![./]*$)(?!(.*/)?\.\.(/|$))[^\0]+", re.DOTALL)
# The grammar of distribution/reference; a registry's host may have capitals, a repository none.
_IMAGE = re.compile(
    r"((([A-Za-z0-9-]+\.)+[A-Za-z0-9-]+|localhost|[A-Za-z0-9-]+(?=:)|\[[0-9a-fA-F:]+\])(:\d+)?/)?"
    r"[a-z0-9]+((\.|__?|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|__?|-+)[a-z0-9]+)*)*"
    r"(:\w[\w.-]{0,127})?(@sha256:[0-9a-f]{64})?",
    re.ASCII,
)
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([bkmgt]?)(?:i?b)?", re.IGNORECASE)


@dataclass(frozen=True)
class Volume:
    """A file or directory the container finds at `mount_path`."""

    name: str
    mount_path: str
    kind: Literal["file", "directory"]


@dataclass(frozen=True)
class Task:
    """One entry of `tasks`.

    An empty `command` means the image's own; so does `entrypoint` None, while an empty one
    removes the image's. `shm_size` is in bytes, `gpus` a number (`ALL_GPUS`: every one) or the
    IDs of devices.
    """

    name: str
    command: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    shm_size: int | None = None
    gpus: int | tuple[str, ...] | None = None
    inputs: tuple[Volume, ...] = ()
    outputs: tuple[Volume, ...] = ()

    @property
    def cases(self) -> str:
        """The input volume whose entries are cases, none of which changes what others give.

        So outputs for all of them are those for some, and those for the others, in one folder.
        Empty for a task that does not say so.
        """
        return self.environment.get(CASES, "")

    def fingerprint(self) -> dict[str, Any]:
        """All that decides what a run of this task does, as JSON that is equal when it is equal."""

        def volumes(these: tuple[Volume, ...]) -> list[list[str]]:
            return sorted([volume.name, volume.mount_path, volume.kind] for volume in these)

        return {
            "task": self.name,
            "command": list(self.command),
            "entrypoint": None if self.entrypoint is None else list(self.entrypoint),
            "environment": dict(sorted(self.environment.items())),
            "shm_size": self.shm_size,
            "gpus": list(self.gpus) if isinstance(self.gpus, tuple) else self.gpus,
            "inputs": volumes(self.inputs),
            "outputs": volumes(self.outputs),
        }


@dataclass(frozen=True)
class ContainerSpec:
    """A container as its configuration describes it.

    `kind` is one of `CONTAINER_TYPES`, or `MLCUBE` or `WORKFLOW` for the definitions that came
    before and beside them: of those only `image` and the names of the tasks are read.
    `source` is the file's path or URL, for messages.
    """

    kind: str
    image: str
    tasks: Mapping[str, Task]
    source: str

    def task(self, name: str) -> Task:
        """The task called `name`. Raises `InvalidContainer` if there is none."""
        if name not in self.tasks:
            raise InvalidContainer(
                f"{self.source} has no task '{name}'; its tasks are: {', '.join(self.tasks)}",
                hint=f"A container for this step of the workflow must define tasks.{name}.",
            )
        return self.tasks[name]


def load(path: Path, source: str = "") -> ContainerSpec:
    """Parse the file at `path`, which came from `source` if that is given.

    Raises `InvalidContainer`, also if it cannot be read.
    """
    from medperf_client import strict_yaml

    try:
        with open(path, "rb") as file:
            # One more than is accepted: whatever else is at the URL of a configuration stays there.
            content = file.read(strict_yaml.MOST_BYTES + 1)
        kind = described(path)
    except OSError as error:
        raise InvalidContainer(f"{path}: {error.strerror}") from error
    if content and kind:
        said = f"{source or path} is {kind}: no container's configuration"
        raise InvalidContainer(said, RAW_HINT)
    return parse(content, source or str(path))


def parse(text: str | bytes, source: str) -> ContainerSpec:
    """Parse a container configuration.

    Raises `InvalidContainer` naming `source` and, for everything that is wrong, the key and what
    was expected there.
    """
    # Imported late: who runs a task has its configuration as plain data.
    from medperf_client import strict_yaml

    try:
        content = strict_yaml.read(text)
    except ValueError as error:
        raise InvalidContainer(f"{source} is not YAML: {error}") from error
    reader = _Reader()
    spec = reader.spec(content, source)
    if reader.problems:
        raise InvalidContainer("\n  ".join([f"{source} breaks the contract:", *reader.problems]))
    return spec


class _Reader:
    """Turns parsed YAML into dataclasses, and notes every problem on the way."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def expected(self, path: str, what: str, found: object) -> None:
        shown = "nothing" if found is None else _SHORT.repr(found)
        self.problems.append(f"{path}: expected {what}, found {shown}")

    def spec(self, content: object, source: str) -> ContainerSpec:
        top = self.mapping(content, "the file")
        if not top:
            return ContainerSpec("", "", {}, source)
        kind = _kind(top)
        if kind in (MLCUBE, WORKFLOW):
            return ContainerSpec(kind, _old_image(top), _old_tasks(top), source)
        if kind not in CONTAINER_TYPES:
            self.expected("container_type", f"one of {', '.join(CONTAINER_TYPES)}", kind)
        image = top.get("image")
        if not isinstance(image, str) or not image.strip() or "\0" in image:
            self.expected("image", "where the image is, as text", image)
        elif kind == DOCKER_IMAGE and not _IMAGE.fullmatch(image):
            what = "an image's name in small letters, such as registry.example.org/team/model:1.0"
            self.expected("image", what, image)
        tasks = self.mapping(top.get("tasks"), "tasks")
        if top.get("tasks") == {}:
            self.expected("tasks", "at least one task", tasks)
        read = {name: self.task(name, path, tasks[name]) for name, path in self.names(tasks)}
        if kind == PROCESS:
            for task in read.values():
                self.as_process(task, f"tasks.{task.name}")
        return ContainerSpec(_text(kind), _text(image), read, source)

    def names(self, tasks: Mapping[Any, Any]) -> Iterator[tuple[str, str]]:
        for name in tasks:
            yield self.name(name, "tasks"), f"tasks.{name}"

    def task(self, name: str, path: str, content: object) -> Task:
        body = self.mapping(content, path)
        self.known(body, ("run_args", "input_volumes", "output_volumes"), path)
        args_path = f"{path}.run_args"
        args = self.optional(body.get("run_args"), args_path)
        self.known(args, RUN_ARGS, args_path)
        inputs = self.volumes(body.get("input_volumes"), f"{path}.input_volumes")
        outputs = self.volumes(body.get("output_volumes"), f"{path}.output_volumes")
        self.distinct(inputs + outputs, path)
        environment = self.environment(args.get("environment"), f"{args_path}.environment")
        if CASES in environment:
            self.cases(environment[CASES], inputs, outputs, path)
        entrypoint = args.get("entrypoint")
        return Task(
            name=name,
            command=self.words(args.get("command", ""), f"{args_path}.command"),
            entrypoint=(
                None if entrypoint is None else self.words(entrypoint, f"{args_path}.entrypoint")
            ),
            environment=environment,
            shm_size=self.size(args.get("shm_size"), f"{args_path}.shm_size"),
            gpus=self.gpus(args.get("gpus"), f"{args_path}.gpus"),
            inputs=inputs,
            outputs=outputs,
        )

    def volumes(self, content: object, path: str) -> tuple[Volume, ...]:
        return tuple(
            self.volume(self.name(name, path), f"{path}.{name}", body)
            for name, body in self.optional(content, path).items()
        )

    def volume(self, name: str, path: str, content: object) -> Volume:
        body = self.mapping(content, path)
        kind: Any = body.get("type")
        if kind not in ("file", "directory"):
            self.expected(f"{path}.type", "file or directory", kind)
        mount_path = body.get("mount_path")
        if not isinstance(mount_path, str) or not _ABSOLUTE.fullmatch(mount_path):
            self.expected(f"{path}.mount_path", "an absolute path below / without ..", mount_path)
        # normpath keeps two slashes at the start, as POSIX asks.
        return Volume(name, "/" + posixpath.normpath(_text(mount_path)).lstrip("/"), kind)

    def distinct(self, volumes: tuple[Volume, ...], path: str) -> None:
        for what in ("name", "mount_path"):
            seen: set[str] = set()
            for volume in volumes:
                value = getattr(volume, what)
                if value in seen:
                    self.problems.append(f"{path}: two volumes have the {what} {value}")
                seen.add(value)

    def cases(
        self, named: str, inputs: tuple[Volume, ...], outputs: tuple[Volume, ...], path: str
    ) -> None:
        folders = [volume.name for volume in inputs if volume.kind == "directory"]
        if named not in folders:
            expected = " or ".join(folders) or "an input volume that is a directory"
            self.expected(f"{path}.run_args.environment.{CASES}", expected, named)
        for volume in outputs:
            if volume.kind != "directory":
                kind_path = f"{path}.output_volumes.{volume.name}.type"
                self.expected(kind_path, f"directory, for {CASES} shares out its cases", "file")

    def as_process(self, task: Task, path: str) -> None:
        """What an image or an engine would make up for, and a plain process cannot."""
        if not task.command and not task.entrypoint:
            self.expected(f"{path}.run_args.command", "what to run", None)
        places = sorted(volume.mount_path + "/" for volume in task.inputs + task.outputs)
        for outer, inner in itertools.pairwise(places):
            if inner != outer and inner.startswith(outer):
                self.problems.append(f"{path}: the volume at {inner[:-1]} is inside {outer[:-1]}")

    def words(self, content: object, path: str) -> tuple[str, ...]:
        words = content
        if isinstance(content, str):
            try:
                words = shlex.split(content)
            except ValueError as error:
                self.problems.append(f"{path}: {error} in {content!r}")
                return ()
        if isinstance(words, list) and all(isinstance(w, str) and "\0" not in w for w in words):
            return tuple(words)
        self.expected(path, "text, or a list of texts", content)
        return ()

    def environment(self, content: object, path: str) -> dict[str, str]:
        values = self.optional(content, path)
        for name, value in values.items():
            if not isinstance(name, str) or not name or "=" in name or "\0" in name:
                self.expected(path, "names of variables, without '='", name)
            if not isinstance(value, (str, int, float)) or "\0" in str(value):
                self.expected(f"{path}.{name}", "text or a number", value)
        return {str(name): _text(value) for name, value in values.items()}

    def size(self, content: object, path: str) -> int | None:
        if content is None:
            return None
        match = None if isinstance(content, bool) else _SIZE.fullmatch(_text(content))
        size = float(match[1]) * 1024 ** "bkmgt".index(match[2].lower() or "b") if match else None
        if size is None or size >= MOST_NUMBER:
            self.expected(path, "a size such as 64m or 2g", content)
            return None
        return int(size)

    def gpus(self, content: object, path: str) -> int | tuple[str, ...] | None:
        text = "" if content is None else _text(content)
        if text in ("", "0"):
            return None
        if text == "all":
            return ALL_GPUS
        if text.isdecimal() and len(text) < MOST_DIGITS:
            return int(text)
        devices = tuple(text.removeprefix("device=").split(","))
        if not text.startswith("device=") or not all(devices):
            self.expected(path, "all, a number, or device=ID,ID", content)
        return devices

    def optional(self, content: object, path: str) -> Mapping[Any, Any]:
        return {} if content is None else self.mapping(content, path)

    def mapping(self, content: object, path: str) -> Mapping[Any, Any]:
        if isinstance(content, dict):
            return content
        self.expected(path, "a mapping", content)
        return {}

    def known(self, content: Mapping[Any, Any], keys: tuple[str, ...], path: str) -> None:
        for key in content:
            if key not in keys:
                self.expected(path, f"only {', '.join(keys)}", key)

    def name(self, name: object, path: str) -> str:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            self.expected(path, "names of letters, digits, '_', '-' and '.'", name)
        return str(name)


def _text(value: object) -> str:
    """`str`, but short for what is no text."""
    return str(value) if isinstance(value, (str, int, float)) else _SHORT.repr(value)


def _kind(top: Mapping[Any, Any]) -> object:
    if "container_type" in top:
        return top["container_type"]
    if "docker" in top or "singularity" in top:
        return MLCUBE
    return WORKFLOW if isinstance(top.get("steps"), list) else None


def _old_image(top: Mapping[Any, Any]) -> str:
    for platform in ("docker", "singularity"):
        if isinstance(top.get(platform), dict):
            return _text(top[platform].get("image", ""))
    return ""


def _old_tasks(top: Mapping[Any, Any]) -> dict[str, Task]:
    tasks, steps = top.get("tasks"), top.get("steps")
    names: list[object] = list(tasks) if isinstance(tasks, dict) else []
    if isinstance(steps, list):
        names += [step.get("id") for step in steps if isinstance(step, dict)]
    return {_text(name): Task(_text(name)) for name in names}
